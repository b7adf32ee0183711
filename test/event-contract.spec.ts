import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  cpSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { evolve, initialState, type DomainEvent, type MailDomain } from '@app/mail-domain';
import { evolveMailbox, noMailbox, type Mailbox, type MailboxEvent } from '@app/mailbox';
import { fromCloudEvent, toCloudEvent } from '@app/messaging';
import { eventVersions } from '@app/subscriptions';
import { testType, webhookTypes } from '@app/webhooks';
import asyncApiSchema from '@asyncapi/specs/schemas/3.0.0.json';
import Ajv from 'ajv';
import addFormats from 'ajv-formats';
import { parse } from 'yaml';
import { ajv, asyncApi, eventsFolder, faultsOf, readSchema, type PublishedMessage } from './support/event-schemas';

const root = resolve(__dirname, '..');
const types = Object.keys(eventVersions.written);
const newest = (type: string): number => eventVersions.written[type]!;
const document = asyncApi();
const examples: PublishedMessage[] = Object.values(document.components.messages).flatMap(
  ({ examples }) => examples ?? [],
);

describe('the schemas', () => {
  it('exist for every event type and version, named after it, open and self-contained', () => {
    const files = types.flatMap((type) =>
      Array.from({ length: newest(type) }, (_, index) => `${type}.${index + 1}.json`),
    );
    expect(readdirSync(join(eventsFolder, 'schemas')).sort()).toEqual(files.sort());
    for (const file of files) {
      const [type, version] = file.split('.');
      const schema = readSchema(type!, version!);
      expect(schema).toMatchObject({ $id: `urn:sendmux:event:${type}:${version}`, title: type, type: 'object' });
      expect(JSON.stringify(schema)).not.toMatch(/"(additionalProperties|\$ref)"/);
      ajv().compile(schema);
    }
  });

  it('describe every field', () => {
    const undescribed = types.flatMap((type) =>
      fieldsOf(type, readSchema(type, newest(type)) as Schema).filter(([, { description }]) => !description),
    );
    expect(undescribed.map(([path]) => path)).toEqual([]);
  });

  it('allow unknown fields for subscribers, which our own events do not have', () => {
    const [added] = examples;
    const more = { ...added!, payload: { ...(added!.payload as object), colour: 'green' } };
    expect(ajv().validate(readSchema('DomainAdded', 1), more.payload)).toBe(true);
    expect(faultsOf(added!)).toEqual([]);
    expect(faultsOf(more)).toEqual([expect.stringContaining('"additionalProperty":"colour"')]);
    const checked = examples.find(({ headers }) => headers.ce_type === 'com.sendmux.DnsChecked')!;
    const nested = structuredClone(checked) as {
      headers: PublishedMessage['headers'];
      payload: { findings: object[] };
    };
    Object.assign(nested.payload.findings[0]!, { colour: 'green' });
    expect(faultsOf(nested)).toEqual([expect.stringContaining('payload/findings/0')]);
    expect(faultsOf({ ...added!, headers: { ...added!.headers, ce_colour: 'green' } })).toHaveLength(1);
  });
});

interface Webhooks {
  readonly components: {
    readonly messages: Record<
      string,
      { headers: object; payload: object; examples: readonly Readonly<Record<string, unknown>>[] }
    >;
  };
}

describe('asyncapi.yaml', () => {
  it('is a valid AsyncAPI 3.0.0 document', () => {
    // The schema of AsyncAPI contains the meta-schema of JSON Schema, so Ajv must not add its own.
    const validator = addFormats(new Ajv({ strict: false, meta: false, validateSchema: false, unicodeRegExp: false }));
    const validate = validator.compile(asyncApiSchema);
    expect(validate(document) || validate.errors).toBe(true);
    const [name, message] = Object.entries(document.components.messages)[0]!;
    for (const broken of [
      { ...document, asyncapi: '2.6.0' },
      { ...document, operations: { publish: { action: 'shout' } } },
      { ...document, components: { messages: { [name]: { ...message, payloads: {} } } } },
    ])
      expect(validate(broken)).toBe(false);
  });

  it('so is that of webhooks, whose examples fit their schemas', () => {
    const webhooks = parse(readFileSync(join(eventsFolder, 'webhooks.yaml'), 'utf8')) as Webhooks;
    const validator = addFormats(new Ajv({ strict: false, meta: false, validateSchema: false, unicodeRegExp: false }));
    const validate = validator.compile(asyncApiSchema);
    expect(validate(webhooks) || validate.errors).toBe(true);
    const { messages } = webhooks.components;
    expect(Object.keys(messages)).toEqual([...webhookTypes, testType]);
    const ajv = addFormats(new Ajv({ strict: false, allErrors: true }));
    ajv.addSchema({ $id: 'webhooks', components: webhooks.components });
    for (const [type, { headers, payload, examples: all }] of Object.entries(messages))
      for (const [part, schema] of Object.entries({ headers, payload })) {
        const refs = JSON.stringify(schema).replaceAll('"#/components/', '"webhooks#/components/');
        const fits = ajv.compile(JSON.parse(refs) as object);
        for (const example of all) expect([type, fits(example[part]), fits.errors]).toEqual([type, true, null]);
        expect(fits({})).toBe(false);
      }
  });

  it('has every reference resolved', () => {
    const refs = [...JSON.stringify(document).matchAll(/"\$ref":"([^"]+)"/g)].map(([, ref]) => ref!);
    expect(refs.length).toBeGreaterThan(types.length * 5);
    expect(refs.filter((ref) => resolved(ref) === undefined)).toEqual([]);
  });

  it('has a message for each event type that is written now, sent to the one topic', () => {
    const { messages } = document.channels.domainEvents!;
    for (const type of types) {
      const name = `${type}.${newest(type)}`;
      expect(messages).toHaveProperty([name]);
      expect(document.components.messages[name]!.payload.$ref).toBe(`./schemas/${name}.json`);
    }
    expect(document.operations.publishDomainEvents).toMatchObject({ action: 'send' });
  });

  it('has examples that fit their schemas, equal the published messages, and are complete streams', () => {
    expect(examples.map(({ headers }) => headers.ce_type)).toEqual(types.map((type) => `com.sendmux.${type}`));
    for (const { headers, payload } of examples) {
      expect(faultsOf({ headers, payload })).toEqual([]);
      const event = fromCloudEvent({ headers, value: Buffer.from(JSON.stringify(payload)) });
      expect(toCloudEvent(event)).toMatchObject({ headers, value: JSON.stringify(payload) });
    }
    const verified = examples.filter(({ headers }) => headers.ce_subject === examples[0]!.headers.ce_subject);
    const life = verified.map(({ headers, payload }): DomainEvent => {
      const { ce_type: type, ce_subject: domainId, ce_time: at } = headers;
      return { type: type!.slice('com.sendmux.'.length), domainId, at, data: payload } as DomainEvent;
    });
    expect(life.reduce<MailDomain>(evolve, initialState).status).toBe('deleted');
    const ofMailbox = examples.filter(({ headers }) => headers.ce_subject!.startsWith('mbx_'));
    const mailbox = ofMailbox
      .sort((a, b) => Number(a.headers.ce_streamversion) - Number(b.headers.ce_streamversion))
      .map(({ headers, payload }): MailboxEvent => {
        const { ce_type: type, ce_subject: mailboxId, ce_time: at } = headers;
        return { type: type!.slice('com.sendmux.'.length), mailboxId, at, data: payload } as MailboxEvent;
      });
    expect(mailbox.reduce<Mailbox>(evolveMailbox, noMailbox).status).toBe('deleted');
  });
});

describe('docs/subscribe.md', () => {
  const text = readFileSync(join(root, 'docs/subscribe.md'), 'utf8');

  it('lists every event, and links to the schema that is written now', () => {
    const rows = [...text.matchAll(/^\| \[(\w+)\]\((\S+)\) \|/gm)].map(([, type, link]) => [type, link]);
    expect(rows).toEqual(types.map((type) => [type, `events/schemas/${type}.${newest(type)}.json`]));
    for (const [, link] of text.matchAll(/\]\((events[^)]*)\)/g))
      expect(existsSync(join(root, 'docs', link!))).toBe(true);
  });

  it('shows every header, as it is in the examples of asyncapi.yaml', () => {
    const rows = [...text.matchAll(/^\| `([\w-]+)` \|.*\| `([^`]+)` \|$/gm)].map(([, name, value]) => [name!, value!]);
    const { ce_causationid } = examples[1]!.headers;
    const { ce_replayid, ce_traceparent, traceparent, ce_logid, ce_epoch, ce_epochafter, ...first } =
      Object.fromEntries(rows) as Record<string, string>;
    expect(first).toEqual({ ...examples[0]!.headers, ce_causationid });
    const more = { ce_replayid, ce_traceparent, traceparent, ce_logid, ce_epoch, ce_epochafter } as typeof first;
    expect(faultsOf({ ...examples[0]!, headers: { ...examples[0]!.headers, ...more } })).toEqual([]);
    const { properties } = document.components.schemas.headers as Schema;
    expect(rows.map(([name]) => name).sort()).toEqual(Object.keys(properties!).sort());
  });
});

describe('npm run events:schemas', () => {
  let copy: string;
  beforeAll(() => {
    copy = mkdtempSync(join(tmpdir(), 'sendmux-contract-'));
    for (const path of [
      'tools',
      'libs',
      'docs/events',
      'docs/subscribe.md',
      'test/golden',
      'tsconfig.json',
      'package.json',
    ])
      cpSync(join(root, path), join(copy, path), { recursive: true });
    symlinkSync(join(root, 'node_modules'), join(copy, 'node_modules'));
  });
  afterAll(() => rmSync(copy, { recursive: true, force: true }));

  const events = () => join(copy, 'libs/mail-domain/events.ts');
  const original = readFileSync(join(root, 'libs/mail-domain/events.ts'), 'utf8');
  const change = (...changes: [from: string, to: string][]) => {
    for (const [from] of changes) expect(original).toContain(from);
    writeFileSync(
      events(),
      changes.reduce((text, [from, to]) => text.replace(from, to), original),
    );
  };
  const run = (...args: string[]) => {
    const { status, stderr } = spawnSync('node', ['tools/event-schemas.mjs', ...args], { cwd: copy, encoding: 'utf8' });
    return { status, stderr };
  };
  const field = '    readonly sesRegion: string;';

  it('produces the committed files', () => {
    expect(run('--check')).toEqual({ status: 0, stderr: '' });
  });

  it('refuses to change or remove a version that is no longer written', () => {
    const path = join(copy, 'docs/events/schemas/DnsChecked.1.json');
    const published = readFileSync(path, 'utf8');
    const stderr =
      'docs/events/schemas/DnsChecked.1.json is not what was published. A version that is no longer written stays as it was: put it back.\n';
    writeFileSync(path, published.replace('"mx",', '"mx", "mta_sts",'));
    expect(run()).toEqual({ status: 1, stderr });
    rmSync(path);
    expect(run('--check')).toEqual({ status: 1, stderr });
    writeFileSync(path, published);
  });

  it('refuses an incompatible change of a published schema', () => {
    change(
      ['    readonly sesRegion: string;', ''],
      ['readonly reason: string', 'readonly why: string'],
      ['readonly deadline: string', 'readonly deadline: string | null'],
      ['readonly trigger: Trigger', 'readonly trigger?: Trigger'],
      ["'DomainDeleted', Record<string, never>", "'DomainDeleted', { readonly at: string }"],
      ['readonly strikes: 0 | 1', 'readonly strikes: 0 | 1 | 2'],
    );
    const { status, stderr } = run();
    expect(status).toBe(1);
    expect(stderr.trim().split('\n').sort()).toEqual(
      [
        'DnsChecked',
        'DomainAdded',
        'DomainDeleted',
        'DomainProvisioned',
        'ProvisioningFailed',
        'VerificationLapsed',
      ].map(
        (type) =>
          `${type} is no longer what docs/events/schemas/${type}.${newest(type)}.json promises. A published version gets new optional fields at most: raise schemaVersions.${type} in libs/mail-domain/events.ts`,
      ),
    );
    expect(run('--check').status).toBe(1);
  });

  it('accepts a new optional field and a better comment once they are generated', () => {
    change(['AWS Region of', 'Where'], [field, `${field}\n    /** New. */ readonly colour?: string;`]);
    expect(run('--check')).toEqual({
      status: 1,
      stderr:
        'Not what the types say: docs/events/schemas/DomainProvisioned.1.json, docs/subscribe.md. npm run events:schemas writes them.\n',
    });
    expect(run()).toEqual({ status: 0, stderr: '' });
    expect(run('--check')).toEqual({ status: 0, stderr: '' });
    const path = join(copy, 'docs/events/schemas/DomainProvisioned.1.json');
    expect(JSON.parse(readFileSync(path, 'utf8'))).toMatchObject({ properties: { colour: { description: 'New.' } } });
  });

  it('keeps the old version beside a new one, and both in the AsyncAPI document', () => {
    change([field, ''], ['  DomainProvisioned: 1,', '  DomainProvisioned: 2,']);
    expect(run()).toEqual({ status: 0, stderr: '' });
    for (const version of [1, 2])
      expect(existsSync(join(copy, `docs/events/schemas/DomainProvisioned.${version}.json`))).toBe(true);
    const text = readFileSync(join(copy, 'docs/events/asyncapi.yaml'), 'utf8');
    const messages = Object.keys((parse(text) as typeof document).channels.domainEvents!.messages);
    expect(messages).toEqual(expect.arrayContaining(['DomainProvisioned.1', 'DomainProvisioned.2']));
  });
});

describe('a schema version that is no longer written', () => {
  const old = types.flatMap((type) =>
    Array.from({ length: newest(type) - 1 }, (_, index) => `schemas/${type}.${index + 1}.json`),
  );

  it('is unchanged, as its checksum shows', () => {
    const sums = readFileSync(join(eventsFolder, 'superseded.sha256'), 'utf8').trimEnd().split('\n');
    expect(sums.map((line) => line.split('  ')[1])).toEqual(old.sort());
    for (const line of sums) {
      const [sum, file] = line.split('  ') as [string, string];
      expect(
        `${file} ${createHash('sha256')
          .update(readFileSync(join(eventsFolder, file)))
          .digest('hex')}`,
      ).toBe(`${file} ${sum}`);
    }
  });
});

interface Schema {
  readonly description?: string;
  readonly properties?: Record<string, Schema>;
  readonly items?: Schema;
}

function fieldsOf(path: string, { properties = {}, items }: Schema): [string, Schema][] {
  return [
    ...Object.entries(properties).flatMap(([name, field]): [string, Schema][] => [
      [`${path}.${name}`, field],
      ...fieldsOf(`${path}.${name}`, field),
    ]),
    ...(items ? fieldsOf(`${path}[]`, items) : []),
  ];
}

/** Resolves a reference of the AsyncAPI document, inside it or to a file next to it. */
function resolved(ref: string): unknown {
  const [file, pointer = ''] = ref.split('#');
  const path = join(eventsFolder, file!);
  if (file && !existsSync(path)) return undefined;
  const start: unknown = file ? JSON.parse(readFileSync(path, 'utf8')) : document;
  return pointer
    .split('/')
    .slice(1)
    .reduce<unknown>((at, key) => (at as Record<string, unknown> | undefined)?.[key], start);
}
