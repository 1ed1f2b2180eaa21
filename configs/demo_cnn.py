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
scratch_cnn_hid = 8  # networks of 16 channels all learn the figures; of 8, random ones make 1 to 8 errors in 100 images
