"""What is known of pipelines of diffusers: families, noise levels, prompts, one pass over a real picture."""
