"""A search of convolutional networks in minutes on one core, on drawn images: what `make search-cnn` runs."""

config = "small_cnn"
dataset = "shapes"  # needs no download
image_size = 8  # a pass takes a second
cnn_num_layers = 4
cnn_crop_padding = 1  # the images are small
precision = "float32"  # the same for all networks that are compared
derive_num_sample = 60
derive_shortlist = 9
derive_finalists = 9  # shared weights rank only roughly
derive_rung_epoch = 2
scratch_cnn_hid = 8  # 12 random networks of 16 channels have 0.966 to 0.996; of 8, 0.919 to 0.986
