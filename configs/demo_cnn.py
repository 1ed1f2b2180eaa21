"""A search of convolutional networks in a minute on one core, on drawn images: what `make search-cnn` runs."""

config = "small_cnn"
dataset = "shapes"  # needs no download
image_size = 8  # differences between networks show, and a pass takes a second
cnn_num_layers = 4
cnn_crop_padding = 1  # the images are small
