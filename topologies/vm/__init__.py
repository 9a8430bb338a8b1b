"""A virtual machine with a stock Debian kernel, for kernel mode where this kernel lacks it.

`recipe.py`: what it consists of. `images.py`: builds it, once. `machine.py`: boots, reaches
and ends it. `guest.py`: what is done inside.
"""
