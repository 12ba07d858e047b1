"""Images in archives: zip, tar and webdataset shards, read where they lie and never unpacked."""
