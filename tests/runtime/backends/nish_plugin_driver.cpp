// Calls a plugin's creator, and the plugins it makes, as TensorRT's C++ does: through the virtual functions of
// NvInferRuntime.h, declared here in their order. Prints what it got, one line for each question.

#include <cstddef>
#include <cstdint>
#include <cstdio>

namespace {

struct Dims { std::int32_t count; std::int64_t values[8]; };
struct Tensor { Dims dims; std::int32_t type, format; float scale; };  // types: 0 float32, 1 float16; format 0: linear
struct DynamicTensor { Tensor desc; Dims min, max, opt; };
struct Expressions { std::int32_t count; const void* values[8]; };
struct Fields { std::int32_t count; const void* values; };
struct Info { const char* kind; std::int32_t major, minor; };

struct Builder { virtual ~Builder() = default; };

struct Versioned {
    virtual std::int8_t language() const noexcept = 0;
    virtual Info info() const noexcept = 0;
    virtual ~Versioned() noexcept;
};
struct Core : Versioned {
    virtual const char* name() const noexcept = 0;
    virtual const char* version() const noexcept = 0;
    virtual const char* space() const noexcept = 0;
};
struct Build : Versioned {
    virtual std::int32_t configure(const DynamicTensor*, std::int32_t, const DynamicTensor*, std::int32_t) noexcept = 0;
    virtual std::int32_t types(std::int32_t*, std::int32_t, const std::int32_t*, std::int32_t) const noexcept = 0;
    virtual std::int32_t shapes(const Expressions*, std::int32_t, const Expressions*, std::int32_t, Expressions*,
                                std::int32_t, Builder&) noexcept = 0;
    virtual bool supports(std::int32_t, const DynamicTensor*, std::int32_t, std::int32_t) noexcept = 0;
    virtual std::int32_t outputs() const noexcept = 0;
    virtual std::size_t workspace(const DynamicTensor*, std::int32_t, const DynamicTensor*,
                                  std::int32_t) const noexcept = 0;
    virtual std::int32_t list_tactics(std::int32_t*, std::int32_t) noexcept = 0;
    virtual std::int32_t tactics() noexcept = 0;
};
struct Plugin : Versioned {
    virtual Versioned* capability(std::int32_t) noexcept = 0;
    virtual Plugin* clone() noexcept = 0;
};
struct Runtime : Versioned {
    virtual std::int32_t set_tactic(std::int32_t) noexcept = 0;
    virtual std::int32_t shape(const Tensor*, std::int32_t, const Tensor*, std::int32_t) noexcept = 0;
    virtual std::int32_t enqueue(const Tensor*, const Tensor*, const void* const*, void* const*, void*,
                                 void*) noexcept = 0;
    virtual Plugin* attach(void*) noexcept = 0;
    virtual const Fields* fields() noexcept = 0;
};
struct Creator : Versioned {
    virtual Plugin* create(const char*, const Fields*, std::int32_t) noexcept = 0;
    virtual const Fields* fields() noexcept = 0;
    virtual const char* name() const noexcept = 0;
    virtual const char* version() const noexcept = 0;
    virtual const char* space() const noexcept = 0;
};

void build(Build& plugin) {
    DynamicTensor tensors[2] = {};
    for (auto& tensor : tensors) tensor.desc = {{4, {-1, 3, 4, 5}}, 1, 0, 0};
    std::printf("outputs %d, tactics %d\n", plugin.outputs(), plugin.tactics());
    std::printf("takes float16: %d %d\n", plugin.supports(0, tensors, 1, 1), plugin.supports(1, tensors, 1, 1));
    tensors[1].desc.type = 0;
    std::printf("takes two types: %d\n", plugin.supports(1, tensors, 1, 1));
    std::int32_t in = 1, out = -1;
    std::printf("types: %d", plugin.types(&out, 1, &in, 1));
    std::printf(", %d\n", out);
    char first, second;
    Expressions input = {2, {&first, &second}}, output = {};
    Builder builder;
    std::printf("shapes: %d", plugin.shapes(&input, 1, nullptr, 0, &output, 1, builder));
    std::printf(", %d\n", output.count == 2 && output.values[0] == &first && output.values[1] == &second);
    std::printf("configure: %d, workspace %zu\n", plugin.configure(tensors, 1, tensors, 1),
                plugin.workspace(tensors, 1, tensors, 1));
}

void run(Runtime& plugin) {
    const Tensor tensor = {{4, {2, 3, 4, 5}}, 1, 0, 0};
    const void* x = reinterpret_cast<void*>(0x100);
    void* y = reinterpret_cast<void*>(0x200);
    const Fields* fields = plugin.fields();
    std::printf("tactic: %d, fields %d\n", plugin.set_tactic(0), fields ? fields->count : -1);
    std::printf("shape: %d\n", plugin.shape(&tensor, 1, &tensor, 1));
    std::printf("enqueue: %d\n", plugin.enqueue(&tensor, &tensor, &x, &y, nullptr, reinterpret_cast<void*>(0x300)));
}

}  // namespace

extern "C" void drive(Creator* creator) {
    std::printf("%s %s %s\n", creator->space(), creator->name(), creator->version());
    const Fields none = {0, nullptr};
    Plugin* const built = creator->create("start", &none, 0)->clone();
    const auto* core = static_cast<Core*>(built->capability(0));
    std::printf("%s %s %s\n", core->space(), core->name(), core->version());
    build(*static_cast<Build*>(built->capability(1)));
    Plugin* const opened = creator->create("start", creator->fields(), 1);
    run(*static_cast<Runtime*>(static_cast<Runtime*>(opened->capability(2))->attach(nullptr)->capability(2)));
    std::fflush(stdout);
}
