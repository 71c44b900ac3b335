"""The files in which data sets are published: CIFAR's and MNIST's, and those of the same form."""
