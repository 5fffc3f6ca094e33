//! Units and installer, as they are: what the units may do, where secrets are, and README's way from a clone to a
//! served request.
