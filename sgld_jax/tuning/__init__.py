"""What runs chains in order to judge them, or to find out how to run them.

warm_up          descent and landscape, adaptation, pilot, correlation, warm_up_report;
                 beyond some hundred coordinates many: own_metric
early_stopped    early_stopping
auto_step_size   step_size: gaussian_laws, gradient_noise
audit            measure, gaussians, laws, explain
bias_check       bias
compare_steps    halved_step
"""
