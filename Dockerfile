# The Floe worker as a container image: one program, ONNX Runtime beside it, and nothing else.
#
#   docker build -t floe .                 builds target `cpu`, the default
#   docker build --target gpu -t floe:gpu .   for NVIDIA's GPUs; see below
#   scripts/container-test --build         builds it, measures it, and runs a job with it in three containers
#
# Needs BuildKit (Docker 20.10 or newer; DOCKER_BUILDKIT=1 where it is not the default). There is no `# syntax=`
# line on purpose: the engine's own front end is enough, and nothing has to be pulled for it.
#
# The image holds ONNX Runtime alone. An execution provider (docs/models.md) is added by name, here 96 MB more:
#   --build-arg EXECUTION_PROVIDERS=openvino
#
# Target `gpu` is the same program with the feature `cuda`, ONNX Runtime's build for GPUs and CUDA 13.0's libraries beside the
# one for processors: 2.4 GB more, out of pinned wheels, on the same base. The driver (580 or newer) is put in by the engine
# that runs the image (nvidia-container-toolkit, Kubernetes' device plugin, SPCS). It is built without a GPU, and
# starts without one: then it says so. The oldest GPUs that it is for, by compute capability (docs/gpu.md):
#   --build-arg CUDA_COMPUTE_CAP=75
#
# Base images are named by tag here. A release should pin what it was built from by digest; a digest belongs to
# the registry one pulls from, so it is given at build time:
#   --build-arg RUNTIME_IMAGE=gcr.io/distroless/cc-debian12:nonroot@sha256:<digest>
# The builder and the runtime image must be of the same Debian release: the program links against its libc.
ARG RUST_IMAGE=rust:1.95-slim-bookworm
ARG DEBIAN_IMAGE=debian:bookworm-slim
ARG RUNTIME_IMAGE=gcr.io/distroless/cc-debian12:nonroot

# ---- ONNX Runtime: the library out of its pinned, hash-checked Python wheel --------------------------------
FROM ${DEBIAN_IMAGE} AS onnxruntime
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates python3 python3-pip \
    && rm -rf /var/lib/apt/lists/*
COPY scripts/fetch-onnxruntime /build/scripts/fetch-onnxruntime
# None by default; of several names, separated by spaces, each is fetched.
ARG EXECUTION_PROVIDERS=
# Kept as it is: it comes without symbols, and untouched it still has the hash pinned in the script.
RUN /build/scripts/fetch-onnxruntime --to /opt/onnxruntime \
    && for name in ${EXECUTION_PROVIDERS}; do \
        /build/scripts/fetch-onnxruntime --to /opt/onnxruntime --with "$name" || exit 1; \
    done

# ---- the program -------------------------------------------------------------------------------------------
FROM ${RUST_IMAGE} AS builder
WORKDIR /build
COPY . .
# Registry and target folder live in cache mounts, so a change of one source file compiles one crate. Cargo
# trusts time stamps: without the `touch`, sources older than the cached target folder would count as built.
RUN --mount=type=cache,id=floe-cargo-registry,target=/usr/local/cargo/registry \
    --mount=type=cache,id=floe-target,target=/build/target,sharing=locked \
    find src -name '*.rs' -exec touch {} + \
    && cargo build --release --locked --bin floe \
    && install -D target/release/floe /opt/floe/bin/floe

# ---- everything in its place, tried out on the very base image it will run on ------------------------------
FROM ${RUNTIME_IMAGE} AS base
# Left alone, ONNX Runtime makes an id for this machine and keeps a database of events for its maker.
ENV ORT_DISABLE_TELEMETRY=1

# What the targets have in common, but for the program.
FROM base AS target
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="floe" \
      org.opencontainers.image.description="Batch inference worker for Snowpark Container Services" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
# By number: Kubernetes' runAsNonRoot and the uid of a stage volume can't look up names.
USER 65532:65532
ENTRYPOINT ["/usr/local/bin/floe"]
CMD ["run"]

FROM base AS assembled
COPY --from=builder /opt/floe/bin/floe /usr/local/bin/floe
COPY --from=onnxruntime /opt/onnxruntime/ /usr/local/lib/floe/
# No shell here, so these are programs with arguments. The second loads ONNX Runtime and a real model.
RUN ["/usr/local/bin/floe", "--version"]
RUN --mount=type=bind,source=examples/flights/model,target=/tmp/model \
    ["/usr/local/bin/floe", "inspect", "/tmp/model"]

# ---- the same for GPUs -------------------------------------------------------------------------------------
FROM onnxruntime AS onnxruntime-gpu
RUN /build/scripts/fetch-onnxruntime --to /opt/onnxruntime --with cuda \
    # cuDNN needs zlib, which the runtime image lacks.
    && cp -L /lib/x86_64-linux-gnu/libz.so.1 /opt/onnxruntime/cuda-13/

FROM ${RUST_IMAGE} AS builder-gpu
# The CUDA compiler comes out of wheels, and calls the C++ compiler.
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates g++ python3 python3-pip \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /build
COPY scripts/cuda-toolkit scripts/cuda-toolkit
ENV CUDA_TOOLKIT_DIR=/opt/cuda-toolkit
RUN scripts/cuda-toolkit > /dev/null
COPY . .
ARG CUDA_COMPUTE_CAP=80
# As for the other; Candle's kernels, a quarter of an hour of one core, are kept in the target folder, too.
RUN --mount=type=cache,id=floe-cargo-registry,target=/usr/local/cargo/registry \
    --mount=type=cache,id=floe-target-gpu,target=/build/target,sharing=locked \
    find src -name '*.rs' -exec touch {} + \
    && eval "$(scripts/cuda-toolkit)" \
    && cargo build --release --locked --features cuda --bin floe \
    && install -D target/release/floe /opt/floe/bin/floe

FROM base AS tried-gpu
COPY --from=builder-gpu /opt/floe/bin/floe /usr/local/bin/floe
# There is no GPU here: that the program starts and runs models on the processor is all that can be tried. Its libraries lie
# where the image has them without being copied for it.
RUN --mount=type=bind,from=onnxruntime-gpu,source=/opt/onnxruntime,target=/usr/local/lib/floe \
    ["/usr/local/bin/floe", "--version"]
RUN --mount=type=bind,from=onnxruntime-gpu,source=/opt/onnxruntime,target=/usr/local/lib/floe \
    --mount=type=bind,source=examples/flights/model,target=/tmp/model \
    ["/usr/local/bin/floe", "inspect", "/tmp/model"]

# ---- target gpu ---------------------------------------------------------------------------------------------
FROM target AS gpu
LABEL org.opencontainers.image.description="Batch inference worker for Snowpark Container Services, for NVIDIA GPUs"
# What asks the engine for the driver's libraries and tools, and where some engines put them.
ENV NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    LD_LIBRARY_PATH=/usr/local/nvidia/lib:/usr/local/nvidia/lib64
# The large layer first: it stays from one version of the program to the next.
COPY --from=onnxruntime-gpu /opt/onnxruntime/ /usr/local/lib/floe/
COPY --from=tried-gpu /usr/local/bin/floe /usr/local/bin/floe

# ---- target cpu, the default -------------------------------------------------------------------------------
FROM target AS cpu
# From `assembled`, so that an image whose trial failed can't be built; in one layer, without the trial's traces.
COPY --from=assembled /usr/local/ /usr/local/
