"""Motion to picture: portrait set-up, warp prior, rolling diffusion window and compositor."""
