"""Documents, augmentation, encoder, bank: what turns text into stored neurons."""
