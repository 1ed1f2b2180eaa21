"""A search of convolutional networks in a few minutes on 2 cores, on drawn images: what `make search-cnn` runs."""

network_type = "cnn"
dataset = "shapes"  # needs no download
image_size = 16  # half the side is a quarter of the work, and the figures can still be told apart
batch_size = 32  # many steps matter more than many images
cnn_num_layers = 4
cnn_hid = 16
cnn_dropout = 0.0  # the shared weights are far from learning the images by heart
cnn_crop_padding = 1  # the images are small
cnn_lr_max = 0.1  # few steps
cnn_lr_period = 6  # max_epoch, so that the only cosine ends with the run
shared_max_step = 300
controller_max_step = 100
controller_num_aggregate = 10
controller_lr = 0.003  # few updates
max_epoch = 6
save_epoch = 2
derive_num_sample = 30
derive_max_batches = 8  # of 32 images each
scratch_cnn_hid = 16
scratch_cnn_dropout = 0.0  # short training, small network
