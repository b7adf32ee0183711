import { spawnSync } from 'node:child_process';
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { thisRelease } from '@app/database';
import { breakingChanges, lastRelease, type Document } from './support/openapi-changes';
import { sample, seedOfRun } from './support/sample';

const root = resolve(__dirname, '..');
const releases = join(root, 'docs/openapi');
const released = JSON.parse(readFileSync(join(releases, `${lastRelease(releases)!}.json`), 'utf8')) as Document;

/** A part of a document, as far as a change of the tests looks at it. */
type Node = Record<string, unknown>;

/** Gives each object of a document that has a field, with the names that lead to it. */
function nodesWith(field: string, of: unknown = released, path: readonly string[] = []): string[][] {
  if (typeof of !== 'object' || of === null) return [];
  const below = Object.entries(of).flatMap(([name, each]) => nodesWith(field, each, [...path, name]));
  return field in of ? [[...path], ...below] : below;
}

const at = (document: Document, path: readonly string[]): Node =>
  path.reduce((node, name) => node[name] as Node, document as unknown as Node);

/** Gives what a change breaks. */
function brokenBy(change: (document: Document) => void): string[] {
  const document = structuredClone(released);
  change(document);
  return breakingChanges(released, document);
}

const refsIn = (value: unknown): string[] =>
  [...JSON.stringify(value ?? {}).matchAll(/"#\/components\/schemas\/(\w+)"/g)].map(([, name]) => name!);

/** Gives the names of all schemas that some schemas lead to. */
function reachable(from: readonly string[], known = new Set<string>()): Set<string> {
  for (const name of from) if (!known.has(name)) reachable(refsIn(released.components.schemas[name]), known.add(name));
  return known;
}

const operations = Object.entries(released.paths).flatMap(([path, methods]) =>
  Object.keys(methods).map((method) => ['paths', path, method]),
);
const usedBy = (part: 'requestBody' | 'responses') =>
  reachable(operations.flatMap((operation) => refsIn(at(released, operation)[part])));
const read = usedBy('responses');
const written = usedBy('requestBody');

/** Gives the paths to all schemas with properties that are written, or read. */
const objects = (names: Set<string>): string[][] =>
  [...names].flatMap((name) =>
    nodesWith('properties', released.components.schemas[name], ['components', 'schemas', name]),
  );
const fieldsOf = (names: Set<string>) =>
  objects(names).flatMap((path) =>
    Object.keys(at(released, path).properties as Node).map((field): [string[], string] => [path, field]),
  );
const enumsOf = (names: Set<string>) =>
  [...names].flatMap((name) => nodesWith('enum', released.components.schemas[name], ['components', 'schemas', name]));

/** A usual run looks at each so-many-th place, by the seed; a whole one at all. */
const every = sample(16, 1);
console.log(`SEED=${seedOfRun}`);

describe('a change that a client can notice is found, wherever it is', () => {
  it.each<[string, number, (string[] | [string[], string])[], (document: Document, place: never) => void]>([
    [
      'an operation that is gone',
      25,
      operations,
      (document, [, path, method]: string[]) => void delete document.paths[path!]![method!],
    ],
    [
      'an operation by another id',
      25,
      operations,
      (document, path: string[]) => void (at(document, path).operationId = 'another'),
    ],
    [
      'a required parameter that is new',
      25,
      operations,
      (document, path: string[]) =>
        void (at(document, path).parameters = [
          ...((at(document, path).parameters as Node[]) ?? []),
          { name: 'x', in: 'query', required: true, schema: { type: 'string' } },
        ]),
    ],
    [
      'a parameter that is gone',
      20,
      operations.filter((path) => (at(released, path).parameters as Node[]).length > 0),
      (document, path: string[]) => void (at(document, path).parameters as Node[]).pop(),
    ],
    [
      'a success that is never answered',
      25,
      operations,
      (document, path: string[]) => {
        const responses = at(document, path).responses as Node;
        delete responses[Object.keys(responses).find((status) => Number(status) < 400)!];
      },
    ],
    [
      'a header that is gone',
      100,
      nodesWith('headers'),
      (document, path: string[]) => {
        const headers = at(document, path).headers as Node;
        delete headers[Object.keys(headers)[0]!];
      },
    ],
    [
      'a field of an answer that is gone',
      200,
      fieldsOf(read),
      (document, [path, field]: [string[], string]) => void delete (at(document, path).properties as Node)[field],
    ],
    [
      'a field of an answer that can be absent',
      150,
      fieldsOf(read).filter(([path, field]) => (at(released, path).required as string[] | undefined)?.includes(field)),
      (document, [path, field]: [string[], string]) =>
        void (at(document, path).required = (at(document, path).required as string[]).filter((each) => each !== field)),
    ],
    [
      'a field of an answer that has another type',
      100,
      fieldsOf(read),
      (document, [path, field]: [string[], string]) =>
        void ((at(document, path).properties as Node)[field] = { type: ['array', 'null', 'boolean'] }),
    ],
    [
      'a value of an answer that is new',
      30,
      enumsOf(read),
      (document, path: string[]) => void (at(document, path).enum as unknown[]).push('new'),
    ],
    [
      'a field of a request that is gone',
      10,
      fieldsOf(written).filter(([path]) => at(released, path).additionalProperties === false),
      (document, [path, field]: [string[], string]) => void delete (at(document, path).properties as Node)[field],
    ],
    [
      'a field of a request that is required and new',
      8,
      objects(written),
      (document, path: string[]) => {
        const schema = at(document, path);
        schema.required = [...((schema.required as string[]) ?? []), 'x'];
      },
    ],
    [
      'a value of a request that is taken no more',
      2,
      enumsOf(written),
      (document, path: string[]) => void (at(document, path).enum as unknown[]).pop(),
    ],
  ])('%s', (_, atLeast, places, change) => {
    expect(places.length).toBeGreaterThanOrEqual(atLeast);
    const first = seedOfRun % Math.min(every, places.length);
    const seen = places.filter((_, index) => index % every === first);
    const unnoticed = seen.filter((place) => brokenBy((document) => change(document, place as never)).length === 0);
    expect(unnoticed).toEqual([]);
  });

  const domain = (document: Document) => at(document, ['components', 'schemas', 'DomainSchema', 'properties']);
  const adding = (document: Document) => at(document, ['components', 'schemas', 'AddDomainRequest', 'properties']);
  it.each<[string, (document: Document) => void, string]>([
    ['a path', ({ paths }) => void delete paths['/domains/{id}'], 'GET /domains/{id} is gone'],
    [
      'a key',
      ({ paths }) => Object.assign(paths['/invitations/accept']!.post!, { security: [{ apiKey: [] }] }),
      'needs a key now',
    ],
    ['null', (document) => void ((domain(document).id as Node).type = ['string', 'null']), 'string or null'],
    ['a number', (document) => void (domain(document).id = { type: 'number' }), 'is number now, and was string'],
    ['a length', (document) => void ((adding(document).domain as Node).maxLength = 10), 'has another maxLength now'],
    ['a form', (document) => void ((adding(document).domain as Node).pattern = '^a'), 'has another pattern now'],
    ['a format', (document) => void delete (domain(document).created_at as Node).format, 'has another format now'],
    ['the address', (document) => Object.assign(document, { servers: [{ url: '/api/v2' }] }), 'The API has another'],
  ])('%s', (_, change, told) => {
    expect(brokenBy(change).join('\n')).toContain(told);
  });
});

it('what is added beside, or takes more than before, breaks nobody', () => {
  const added = brokenBy((document) => {
    document.paths['/new'] = document.paths['/me']!;
    for (const path of operations) {
      const { parameters, responses } = at(document, path) as { parameters: Node[]; responses: Node };
      parameters.push({ name: 'x', in: 'query', required: false, schema: { type: 'string' } });
      responses['418'] = { content: {} };
    }
    for (const [path, field] of fieldsOf(read)) {
      const { properties, required = [] } = at(document, path) as { properties: Node; required?: string[] };
      properties.new_field = { type: 'string' };
      if (!written.has(path[2]!)) at(document, path).required = [...new Set([...required, field])];
    }
    for (const path of objects(written)) (at(document, path).properties as Node).optional = { type: 'string' };
    for (const path of enumsOf(written).filter(([, , name]) => !read.has(name!)))
      (at(document, path).enum as string[]).push('new');
    for (const path of nodesWith('x-extensible-enum'))
      (at(document, path)['x-extensible-enum'] as string[]).push('new');
    for (const path of nodesWith('description', document.components)) {
      const node = at(document, ['components', ...path]);
      // A field may have this name.
      if (typeof node.description === 'string') delete node.description;
    }
    delete at(document, ['components', 'schemas', 'AddDomainRequest', 'properties', 'domain']).maxLength;
  });
  expect(added).toEqual([]);
});

it('the last release is the one with the highest numbers', () => {
  const folder = mkdtempSync(join(tmpdir(), 'sendmux-releases-'));
  expect(lastRelease(folder)).toBeUndefined();
  expect(lastRelease(join(folder, 'none'))).toBeUndefined();
  for (const name of ['0.9.0.json', '0.10.0.json', '0.9.12.json', '1.0.0-beta.json', 'README.md'])
    writeFileSync(join(folder, name), '{}');
  expect(lastRelease(folder)).toBe('0.10.0');
  rmSync(folder, { recursive: true });
});

describe('tools/openapi.mjs', () => {
  let copy: string;
  beforeAll(() => {
    copy = mkdtempSync(join(tmpdir(), 'sendmux-openapi-'));
    for (const path of ['apps', 'libs', 'tools', 'docs/openapi', 'test/support', 'tsconfig.json', 'package.json'])
      cpSync(join(root, path), join(copy, path), { recursive: true });
    symlinkSync(join(root, 'node_modules'), join(copy, 'node_modules'));
  });
  afterAll(() => rmSync(copy, { recursive: true, force: true }));

  const run = (option: string) => {
    const command = ['tools/openapi.mjs', option];
    const { status, stdout, stderr } = spawnSync(process.execPath, command, { cwd: copy, encoding: 'utf8' });
    return { status, stdout, stderr };
  };
  const change = (file: string, from: string, to: string) => {
    const path = join(copy, file);
    const text = readFileSync(path, 'utf8');
    expect(text).toContain(from);
    writeFileSync(path, text.replace(from, to));
  };

  it('holds the document to that of the last release, until the version is raised', () => {
    const domains = 'apps/gateway/domains/domain.dto.ts';
    change(domains, 'verified_at: string | null;', 'verified: string | null;');
    change(domains, "['pending', 'verified', 'failed']", "['pending', 'verified', 'failed', 'paused']");
    change('apps/gateway/domains/domains.controller.ts', "@Get(':id')", "@Get('by-id/:id')");
    const broken = run('--check');
    expect(broken.status).toBe(1);
    expect(broken.stderr).toContain('GET /domains/{id} is gone\n');
    expect(broken.stderr).toContain('POST /domains 201 data verified_at is gone\n');
    expect(broken.stderr).toContain('POST /domains 201 data verification_status can be paused now\n');
    expect(broken.stderr).toContain('raise the version');

    change('package.json', `"version": "${thisRelease.version}"`, '"version": "0.999.0"');
    expect(run('--release')).toEqual({ status: 0, stdout: '', stderr: '' });
    const kept = JSON.parse(readFileSync(join(copy, 'docs/openapi/0.999.0.json'), 'utf8')) as Document;
    expect(Object.keys(kept.paths)).toContain('/domains/by-id/{id}');
    expect(nodesWith('example', kept)).toEqual([]);
  });
});
