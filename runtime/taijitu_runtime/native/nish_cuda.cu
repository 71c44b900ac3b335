#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include "nish_cuda.h"
#include "nish_formula.h"

namespace taijitu {
namespace {

// The comparison is false for NaN, -0 and everything above, which go through unchanged.
__device__ float nish(float x) { return x < 0.0f ? nish_formula<float, std::uint32_t>(x) : x; }

__device__ __half nish(__half x) {
    const float wide = __half2float(x);
    return wide < 0.0f ? __float2half_rn(nish_formula<float, std::uint32_t>(wide)) : x;
}

template <typename Element>
__global__ void nish_kernel(const Element* x, Element* y, std::size_t count) {
    const std::size_t step = static_cast<std::size_t>(gridDim.x) * blockDim.x;
    for (std::size_t i = static_cast<std::size_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < count; i += step)
        y[i] = nish(x[i]);
}

template <typename Element>
const char* queue(const Element* x, Element* y, std::size_t count, void* stream) {
    constexpr std::size_t kThreads = 256, kMostBlocks = 65535;
    if (count == 0) return nullptr;
    const std::size_t blocks = (count + kThreads - 1) / kThreads;
    const auto grid = static_cast<unsigned>(blocks < kMostBlocks ? blocks : kMostBlocks);
    nish_kernel<<<grid, kThreads, 0, static_cast<cudaStream_t>(stream)>>>(x, y, count);
    const cudaError_t error = cudaGetLastError();
    return error == cudaSuccess ? nullptr : cudaGetErrorString(error);
}

}  // namespace

const char* queue_nish(const float* x, float* y, std::size_t count, void* stream) { return queue(x, y, count, stream); }

const char* queue_nish(const std::uint16_t* x, std::uint16_t* y, std::size_t count, void* stream) {
    return queue(reinterpret_cast<const __half*>(x), reinterpret_cast<__half*>(y), count, stream);
}

}  // namespace taijitu

// For the TensorRT plugin, which is Python and finds this by its name.
extern "C" __attribute__((visibility("default"))) const char* taijitu_queue_nish(const void* x, void* y,
                                                                                 std::size_t count, int is_float16,
                                                                                 void* stream) {
    using taijitu::queue_nish;
    return is_float16 ? queue_nish(static_cast<const std::uint16_t*>(x), static_cast<std::uint16_t*>(y), count, stream)
                      : queue_nish(static_cast<const float*>(x), static_cast<float*>(y), count, stream);
}
