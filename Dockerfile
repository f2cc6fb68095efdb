# Podlane's image: one static binary, run by an ordinary user, on nothing.
#
#   docker build -t registry.example.com/podlane:v0.1.0 --build-arg VERSION=v0.1.0 .
#   docker buildx build --platform linux/amd64,linux/arm64 --push -t registry.example.com/podlane:v0.1.0 .
#
# The compiler runs on the builder's own platform and makes code for the other one, so that no emulator is needed.
FROM --platform=$BUILDPLATFORM golang:1.26.8 AS build
WORKDIR /src
# Modules first: this layer is built again only when they change.
COPY go.mod go.sum ./
RUN go mod download
COPY cmd/ cmd/
COPY config/ config/
COPY controllers/ controllers/
COPY proxy/ proxy/
COPY router/ router/
COPY tls/ tls/
ARG TARGETOS
ARG TARGETARCH
ARG VERSION=devel
# Equal sources give equal bytes, wherever they are built: no paths, no version control stamp, no C library.
RUN CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH go build -trimpath -buildvcs=false \
    -ldflags "-s -w -X main.version=$VERSION" -o /podlane ./cmd/podlane

FROM scratch
LABEL org.opencontainers.image.title="Podlane" \
      org.opencontainers.image.description="A Kubernetes ingress controller" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.source="https://podlane.dev/podlane"
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /podlane /podlane
# As a number, so that Kubernetes can see that it is not root (runAsNonRoot).
USER 65532:65532
EXPOSE 8080 8443 9090
ENTRYPOINT ["/podlane"]
CMD ["controller"]
