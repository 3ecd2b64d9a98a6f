"""Training: the embedded bundle from nothing, with the paper's split into base, LoRA and ControlNets."""
