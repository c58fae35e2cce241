"""A folder of named arrays that finds out when it has been damaged.

    manifest.json       for every array its file, shape, type and SHA-256; and facts
    manifest.sha256     the SHA-256 of the manifest
    00.params.w.npy …   the arrays, as NumPy keeps them, for any tool to open

It is written under another name and renamed when it is whole. Reading checks sizes,
names and hashes before anything is made of the bytes, and takes no more memory than the
manifest declares and the files have. Nothing is pickled.
"""

import hashlib
import io
import json
import os
import pathlib
import re
import shutil
import stat
import tempfile
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from sgld_jax.keys import is_key

SCHEMA = 1
_MANIFEST, _SUM = "manifest.json", "manifest.sha256"
_MAX_MANIFEST = 64 * 2**20
_FILE_NAME = re.compile(r"\d{2,}\.[A-Za-z0-9_.-]{0,80}\.npy")
_IMPLEMENTATIONS = ("threefry2x32", "rbg", "unsafe_rbg")
# Types of JAX that NumPy has no name for are kept as whole numbers of their size.
_NARROW = {"bfloat16": np.uint16, "float8_e4m3fn": np.uint8, "float8_e5m2": np.uint8}
_PLAIN = {"bool", "float16", "float32", "float64", "complex64", "complex128"}
_PLAIN |= {f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)}


class _Entry(NamedTuple):
    """What the manifest says of an array.

    Attributes:
      file: its name in the folder.
      shape: of what is in the file, and of the array but for keys.
      dtype: of the array, or "key<implementation>".
      bytes: size of the file.
      sha256: of the file.
    """

    file: str
    shape: list
    dtype: str
    bytes: int
    sha256: str


def write(folder: Any, arrays: dict[str, Any], facts: dict[str, Any]) -> None:
    """Writes a folder of arrays and facts, whole or not at all.

    Args:
      folder: a path where nothing is yet.
      arrays: by name; typed keys, too.
      facts: what JSON can hold.

    Raises:
      FileExistsError: if there is something already.
      TypeError: for arrays of types that cannot be kept.
    """
    folder = pathlib.Path(folder)
    if folder.exists() or folder.is_symlink():
        raise FileExistsError(
            f"{folder} exists: expected a new name. Nothing is overwritten; remove it "
            f"first, or choose another one."
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent)
    try:
        entries = {
            name: _write_array(pathlib.Path(partial), i, name, array)._asdict()
            for i, (name, array) in enumerate(arrays.items())
        }
        manifest = {"schema": SCHEMA, "facts": facts, "arrays": entries}
        text = json.dumps(manifest, indent=1, ensure_ascii=False).encode()
        _write_file(pathlib.Path(partial, _MANIFEST), text)
        digest = hashlib.sha256(text).hexdigest() + "\n"
        _write_file(pathlib.Path(partial, _SUM), digest.encode())
        os.chmod(partial, 0o755)
        os.rename(partial, folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def read(folder: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """The arrays and the facts of a folder that `write` made.

    Raises:
      FileNotFoundError: if there is no such folder, or a part of it is missing.
      ValueError: naming what is damaged, or was made by another version.
    """
    folder = pathlib.Path(folder)
    text = _read_file(folder / _MANIFEST, _MAX_MANIFEST)
    digest = _read_file(folder / _SUM, 65)
    if bytes(digest) != hashlib.sha256(text).hexdigest().encode() + b"\n":
        raise ValueError(f"{folder / _MANIFEST} has been changed: {_DAMAGED}")
    try:
        manifest = json.loads(bytes(text))
        schema, facts = manifest["schema"], manifest["facts"]
        entries = {
            name: _checked(_Entry(**entry))
            for name, entry in manifest["arrays"].items()
            if schema == SCHEMA
        }
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ValueError(
            f"{folder / _MANIFEST} is no manifest of sgld_jax ({error})."
        ) from None
    if schema != SCHEMA:
        raise ValueError(
            f"{folder} has schema {schema!r}, and this version reads {SCHEMA}: use "
            f"the version of sgld_jax that wrote it."
        )
    return {name: _read_array(folder, entry) for name, entry in entries.items()}, facts


_DAMAGED = "its SHA-256 is another one. Restore it from a copy; nothing was read."


def _write_array(folder: pathlib.Path, number: int, name: str, array: Any) -> _Entry:
    if is_key(array):
        dtype = f"key<{jax.random.key_impl(array)}>"
        plain = np.asarray(jax.random.key_data(array))
    else:
        plain = np.asarray(array)
        dtype = plain.dtype.name
        if dtype in _NARROW:
            plain = plain.view(_NARROW[dtype])
        elif dtype not in _PLAIN:
            raise TypeError(f"{name} has dtype {dtype}: expected an array of numbers.")
    slug = re.sub(r"[^A-Za-z0-9_]+", ".", name).strip(".")[:80]
    file = f"{number:02}.{slug}.npy"
    buffer = io.BytesIO()
    plain = plain.astype(plain.dtype.newbyteorder("<"), copy=False)
    np.save(buffer, np.ascontiguousarray(plain).reshape(plain.shape), False)
    content = buffer.getbuffer()
    _write_file(folder / file, content)
    digest = hashlib.sha256(content).hexdigest()
    return _Entry(file, list(plain.shape), dtype, len(content), digest)


def _write_file(path: pathlib.Path, content: Any) -> None:
    with open(path, "xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _checked(entry: _Entry) -> _Entry:
    """Raises `ValueError` for what `write` would not have written."""
    sizes = [*entry.shape, entry.bytes]
    whole = all(isinstance(n, int) and not isinstance(n, bool) for n in sizes)
    if not whole or min(sizes) < 0 or len(entry.shape) > 32:
        raise ValueError(f"shape {entry.shape} of {entry.bytes} bytes")
    if not _FILE_NAME.fullmatch(entry.file):
        raise ValueError(f"a file {entry.file!r}")
    _stored_type(entry.dtype)
    return entry


def _stored_type(dtype: str) -> np.dtype:
    """The type of the numbers in the file."""
    if dtype in [f"key<{name}>" for name in _IMPLEMENTATIONS]:
        return np.dtype(np.uint32)
    if dtype in _NARROW:
        return np.dtype(_NARROW[dtype])
    if dtype in _PLAIN:
        return np.dtype(dtype)
    raise ValueError(f"the type {dtype!r}")


def _read_array(folder: pathlib.Path, entry: _Entry) -> Any:
    path = folder / entry.file
    content = _read_file(path, entry.bytes)
    if hashlib.sha256(content).hexdigest() != entry.sha256:
        raise ValueError(f"{path} has been changed: {_DAMAGED}")
    header = io.BytesIO(content[: 2**16])
    try:
        if np.lib.format.read_magic(header) != (1, 0):
            raise ValueError("a header of another version")
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(header)
    except ValueError as error:
        raise ValueError(f"{path} is no array of NumPy ({error}).") from None
    expected = _stored_type(entry.dtype)
    size = expected.itemsize * int(np.prod(entry.shape, dtype=object))
    is_whole = len(content) == header.tell() + size
    if fortran or dtype != expected or list(shape) != entry.shape or not is_whole:
        raise ValueError(
            f"{path} holds {dtype}{list(shape)} in {len(content)} bytes: the manifest "
            f"says {entry.dtype}{entry.shape}."
        )
    array = np.frombuffer(content, expected, offset=header.tell()).reshape(shape)
    if entry.dtype in _NARROW:
        return array.view(jnp.dtype(entry.dtype))
    if entry.dtype.startswith("key<"):
        return jax.random.wrap_key_data(jnp.asarray(array), impl=entry.dtype[4:-1])
    return array


def _read_file(path: pathlib.Path, size: int) -> bytearray:
    """The bytes of a regular file of that size; a manifest's is a limit."""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        raise FileNotFoundError(
            f"{path} is missing: expected a folder that samples.save(folder) wrote."
        ) from None
    if not stat.S_ISREG(found.st_mode):
        raise ValueError(f"{path} is a link or no file: expected a regular file.")
    fits = found.st_size <= size if path.name == _MANIFEST else found.st_size == size
    if not fits:
        raise ValueError(f"{path} has {found.st_size} bytes: expected {size}.")
    content = bytearray(found.st_size)
    with open(path, "rb") as file:
        if file.readinto(content) != found.st_size or file.read(1):
            raise ValueError(f"{path} changed while it was read.")
    return content
