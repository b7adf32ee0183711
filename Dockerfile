FROM node:26-trixie-slim AS base
WORKDIR /app
ENV NODE_OPTIONS=--enable-source-maps SENDMUX_DATA_DIR=/data
RUN mkdir /data && chown node:node /data
VOLUME /data
ENTRYPOINT ["node"]
COPY package.json package-lock.json ./

FROM base AS build
RUN npm ci --no-audit --no-fund
COPY nest-cli.json tsconfig.json tsconfig.build.json ./
COPY tools/clean.mjs tools/
COPY apps apps
COPY libs libs
COPY local local
COPY web web
RUN npm run build

# The stand-in for Amazon SES, the DNS and the mailboxes. It is for development only, and needs the development
# packages.
FROM build AS sandbox
USER node
CMD ["dist/apps/sandbox/main.js"]

FROM build AS product
RUN rm -r dist/apps/sandbox dist/local dist/.tsbuildinfo dist/web/sandbox.html

FROM base
ENV NODE_ENV=production
RUN npm ci --omit=dev --no-audit --no-fund && npm cache clean --force
COPY --from=product /app/dist dist
COPY bin bin
COPY tools/health.mjs tools/with-node tools/
USER node
CMD ["dist/apps/gateway/main.js"]
