# The image of all apps and of the command line. What a tag names may change; a release names what it is built on:
#   docker build --build-arg NODE_IMAGE=node:26-trixie-slim@sha256:… --build-arg VERSION=… --build-arg REVISION=… .
ARG NODE_IMAGE=node:26-trixie-slim
FROM ${NODE_IMAGE} AS base
WORKDIR /app
ENV NODE_OPTIONS=--enable-source-maps SENDMUX_DATA_DIR=/data
RUN mkdir /data && chown 1000:1000 /data
VOLUME /data
ENTRYPOINT ["node"]
COPY package.json package-lock.json ./

FROM base AS build
# A package whose script nobody has allowed in package.json is not installed.
RUN npm_config_strict_allow_scripts=true npm ci --no-audit --no-fund
COPY nest-cli.json tsconfig.json tsconfig.build.json ./
COPY tools/bundle.mjs tools/clean.mjs tools/
COPY apps apps
COPY libs libs
COPY local local
COPY web web
RUN npm run build

# The stand-in for Amazon SES, the DNS and the mailboxes. It is for development only, and needs the development
# packages.
FROM build AS sandbox
USER 1000:1000
CMD ["dist/apps/sandbox/main.js"]

FROM build AS product
RUN rm -r dist/apps/sandbox dist/local dist/.tsbuildinfo dist/web/sandbox.html

FROM base
ENV NODE_ENV=production
COPY tools/health.mjs tools/sbom.mjs tools/with-node tools/
# The list has the packages of npm in the image; Node and the packages of Debian come with the base.
RUN npm_config_strict_allow_scripts=true npm ci --omit=dev --no-audit --no-fund \
  && npm run --silent sbom >sbom.cdx.json \
  && npm cache clean --force
COPY --from=product /app/dist dist
COPY bin bin
# The user `node` of the base image. Kubernetes can tell a number from root, and not a name.
USER 1000:1000
CMD ["dist/apps/gateway/main.js"]
ARG VERSION=0.0.0
ARG REVISION=unknown
ARG NODE_IMAGE
LABEL org.opencontainers.image.title="sendmux-domains" \
  org.opencontainers.image.description="The whole life of a customer's mail domain: provisioned, verified, watched and accounted for." \
  org.opencontainers.image.licenses="Apache-2.0" \
  org.opencontainers.image.version="${VERSION}" \
  org.opencontainers.image.revision="${REVISION}" \
  org.opencontainers.image.base.name="${NODE_IMAGE}"
