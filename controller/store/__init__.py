"""The shared data layer (SDL): what xApps and the RIC keep between them."""
