// Holds the OpenAPI document to that of the last release, which is kept in docs/openapi without its examples.
//   node tools/openapi.mjs --check    ends with 1 when a client of the last release would break, and says by what
//   node tools/openapi.mjs --release  keeps the document as that of the version in package.json, unless it would break
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { NestFactory } from '@nestjs/core';
import { FastifyAdapter } from '@nestjs/platform-fastify';
import { typescriptLoader } from './load-typescript.mjs';

const root = resolve(import.meta.dirname, '..');
const folder = join(root, 'docs/openapi');
const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
const load = typescriptLoader(root);
const { breakingChanges, lastRelease, withoutExamples } = load('./test/support/openapi-changes.ts');
const document = await present();

const last = lastRelease(folder);
const changes = last ? breakingChanges(documentOf(last), document) : [];
if (changes.length > 0 && !isRaised(last, version)) {
  for (const change of changes) console.error(change);
  console.error(
    `\nClients of ${last} would break (docs/openapi/${last}.json). Add beside what is there; or else, raise the version in package.json.`,
  );
  process.exit(1);
}
if (process.argv.includes('--release')) {
  mkdirSync(folder, { recursive: true });
  writeFileSync(fileOf(version), `${JSON.stringify(withoutExamples(document), null, 2)}\n`);
}

/** Generates the document from the controllers. Nothing is instantiated, so that no database is needed. */
async function present() {
  const { loadSettings } = load('./libs/runtime/index.ts');
  const { GatewayModule, gatewaySettings } = load('./apps/gateway/gateway.module.ts');
  const { openApiDocument } = load('./apps/gateway/http/openapi.ts');
  const unused = { DATABASE_URL: 'postgresql://localhost', DOH_RESOLVERS: 'http://localhost/dns-query' };
  const module = GatewayModule.forRoot(loadSettings(unused, gatewaySettings));
  const options = { preview: true, abortOnError: false, logger: ['error'] };
  return openApiDocument(await NestFactory.create(module, new FastifyAdapter(), options));
}

function fileOf(release) {
  return join(folder, `${release}.json`);
}

function documentOf(release) {
  return JSON.parse(readFileSync(fileOf(release), 'utf8'));
}

/** Whether a version may break what an older one has promised (Semantic Versioning 2.0.0, items 4 and 8). */
function isRaised(from, to) {
  const [[major, minor], [newMajor, newMinor]] = [from, to].map((each) => each.split('.').map(Number));
  return newMajor > major || (major === 0 && newMajor === 0 && newMinor > minor);
}
