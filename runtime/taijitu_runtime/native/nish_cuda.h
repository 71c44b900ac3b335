// Nish on an NVIDIA GPU: queues y[i] = nish(x[i]) for i < count on a stream (a cudaStream_t). x and y lie in the GPU's
// memory and may be the same array. Null, or what CUDA says went wrong.

#pragma once

#include <cstddef>
#include <cstdint>

namespace taijitu {

const char* queue_nish(const float* x, float* y, std::size_t count, void* stream);
const char* queue_nish(const std::uint16_t* x, std::uint16_t* y, std::size_t count, void* stream);

}  // namespace taijitu
