# The image of `make image`, for whoever builds with Docker or BuildKit instead. docs/image.md says what is in it, why, and how to pin Go's image
# by its digest. A test in tools/image keeps this file and that command in agreement.
#
#   docker buildx build --platform linux/amd64,linux/arm64 \
#     --build-arg VERSION="$(git describe --tags --always --dirty)" --build-arg REVISION="$(git rev-parse HEAD)" \
#     --build-arg CREATED="$(TZ=UTC git show --no-patch --date=format-local:%Y-%m-%dT%H:%M:%SZ --format=%cd)" \
#     --build-arg SOURCE_DATE_EPOCH="$(git show --no-patch --format=%ct)" .

FROM --platform=$BUILDPLATFORM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY tools/image/ tools/image/
RUN cd tools/image && go run ./basefiles -o /image
COPY cmd/ cmd/
COPY internal/ internal/
COPY schemas/ schemas/
ARG TARGETOS
ARG TARGETARCH
ARG VERSION
RUN CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH GOAMD64=v1 GOARM64=v8.0 GOFLAGS= GOEXPERIMENT= GOFIPS140=off GOWORK=off \
    go build -o /image/worker -trimpath -buildvcs=false -ldflags="-s -w -X main.version=$VERSION" ./cmd/worker

FROM scratch
COPY --from=build /image/ /
ARG VERSION
ARG REVISION
ARG CREATED
LABEL org.opencontainers.image.title="discount-worker"
LABEL org.opencontainers.image.description="Asks card schemes for instant discounts: queries come from NATS JetStream, results go back there."
LABEL org.opencontainers.image.version="$VERSION"
LABEL org.opencontainers.image.revision="$REVISION"
LABEL org.opencontainers.image.source="https://discountquery.example/worker"
LABEL org.opencontainers.image.licenses="Apache-2.0"
LABEL org.opencontainers.image.created="$CREATED"
LABEL org.opencontainers.image.base.name="scratch"
ENV PATH="/"
WORKDIR /
USER 65532:65532
ENTRYPOINT ["/worker"]
CMD ["run", "-c", "/etc/discount/worker.yaml"]
