"""Files with attention: records into one file and out of one, those of other programs too."""
