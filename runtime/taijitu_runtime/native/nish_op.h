// The operator taijitu::Nish, version 1, as ONNX Runtime wants it described, whatever computes it.

#pragma once

#include "ort_abi.h"

namespace taijitu {

// What a kernel computes with: y[i] = nish(x[i]) for i < count.
struct Tensors {
    const void* x;
    void* y;
    std::size_t count;
};

// Fetches the input and makes an output of the same shape.
inline OrtStatus* open(OrtApi* api, OrtKernelContext* context, Tensors& tensors) {
    constexpr std::size_t kMaxRank = 32;
    const OrtValue* input = nullptr;
    OrtValue* output = nullptr;
    OrtTensorTypeAndShapeInfo* info = nullptr;
    std::int64_t shape[kMaxRank];
    std::size_t rank = 0;
    void* x = nullptr;

    OrtStatus* status = ort::KernelContext_GetInput(api)(context, 0, &input);
    if (!status) status = ort::GetTensorTypeAndShape(api)(input, &info);
    if (!status) status = ort::GetDimensionsCount(api)(info, &rank);
    if (!status && rank > kMaxRank)
        status = ort::CreateStatus(api)(ort::kInvalidArgument, "taijitu::Nish: got more than 32 dimensions");
    if (!status) status = ort::GetDimensions(api)(info, shape, rank);
    if (!status) status = ort::GetTensorShapeElementCount(api)(info, &tensors.count);
    if (!status) status = ort::KernelContext_GetOutput(api)(context, 0, shape, rank, &output);
    if (!status) status = ort::GetTensorMutableData(api)(const_cast<OrtValue*>(input), &x);
    if (!status) status = ort::GetTensorMutableData(api)(output, &tensors.y);
    if (info) ort::ReleaseTensorTypeAndShapeInfo(api)(info);
    tensors.x = x;
    return status;
}

// One operator for each element type, all of the same name: ONNX Runtime chooses by the type of the input. The kernel
// has no state but the table of functions.
template <int ElementType>
OrtCustomOp nish_op(const char* (*provider)(const OrtCustomOp*), OrtStatus* (*compute)(void*, OrtKernelContext*)) {
    OrtCustomOp op{};
    op.version = ort::kApiVersion;
    op.GetName = [](const OrtCustomOp*) { return "Nish"; };
    op.GetExecutionProviderType = provider;
    op.GetInputType = op.GetOutputType = [](const OrtCustomOp*, std::size_t) -> int { return ElementType; };
    op.GetInputTypeCount = op.GetOutputTypeCount = [](const OrtCustomOp*) -> std::size_t { return 1; };
    op.GetInputCharacteristic = op.GetOutputCharacteristic = [](const OrtCustomOp*, std::size_t) -> int {
        return ort::kRequired;
    };
    op.GetInputMemoryType = [](const OrtCustomOp*, std::size_t) -> int { return ort::kDefaultMemory; };
    op.GetStartVersion = op.GetEndVersion = [](const OrtCustomOp*) -> int { return 1; };
    op.CreateKernelV2 = [](const OrtCustomOp*, OrtApi* api, const OrtKernelInfo*, void** kernel) -> OrtStatus* {
        *kernel = reinterpret_cast<void*>(const_cast<void (**)()>(api));
        return nullptr;
    };
    op.KernelComputeV2 = compute;
    op.KernelDestroy = [](void*) {};
    return op;
}

inline OrtApi* api_of(void* kernel) { return static_cast<void (**)()>(kernel); }

}  // namespace taijitu
