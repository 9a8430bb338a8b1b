"""The cyber space: twins, decisions and the enforcement of slices."""
