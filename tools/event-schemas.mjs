// Generates the contract of the messages (docs/events, and the table of docs/subscribe.md) from the types of the events
// and their comments.
//   node tools/event-schemas.mjs           writes it; refuses incompatible changes of a published schema, and any
//                                          change of a version that is no longer written
//   node tools/event-schemas.mjs --check   ends with 1 when it is out of date
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { createFormatter, createParser, SchemaGenerator } from 'ts-json-schema-generator';
import ts from 'typescript';
import { stringify } from 'yaml';
import { typescriptLoader } from './load-typescript.mjs';

const root = resolve(import.meta.dirname, '..');
const folder = join(root, 'docs/events');

mkdirSync(join(folder, 'schemas'), { recursive: true });
const load = typescriptLoader(root);
const [domains, mailboxes] = [load('./libs/mail-domain/index.ts'), load('./libs/mailbox/index.ts')];
const records = load('./libs/mail-records/index.ts');
/** The file of the events of each model, and the versions that are written now. */
const models = [
  { types: 'libs/mail-domain/events.ts', name: 'schemaVersions', versions: domains.schemaVersions },
  { types: 'libs/mailbox/events.ts', name: 'mailboxSchemaVersions', versions: mailboxes.mailboxSchemaVersions },
];
const schemaVersions = Object.assign({}, ...models.map(({ versions }) => versions));
const { toCloudEvent } = load('./libs/messaging/cloud-event.ts');
const { dataSchema, fromLine } = load('./libs/event-store/event-line.ts');

/** The form of stream names: of a domain or a mailbox. */
const stream = '(mdom|mbx)_[a-z0-9]+';
const eventId = `^${stream}/[1-9][0-9]*(/[1-9][0-9]*)?$`;
const traceparent = '^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$';

const fileOf = (type, version) => `schemas/${type}.${version}.json`;
/**
 * The checksums, in the format of `sha256sum --check`, of the schemas that are no longer written but stay as they were
 * published.
 */
const supersededFile = 'superseded.sha256';
const files = new Map();
const faults = [];
/** One for both models, since to read the types that they share takes most of the time. */
const generator = schemaGenerator();
for (const { type, schema, types, name } of models.flatMap(generateSchemas)) {
  const file = fileOf(type, schemaVersions[type]);
  const path = join(folder, file);
  if (existsSync(path) && !isAddition(JSON.parse(readFileSync(path, 'utf8')), schema))
    faults.push(
      `${type} is no longer what docs/events/${file} promises. A published version gets new optional fields at most: raise ${name}.${type} in ${types}`,
    );
  files.set(file, `${JSON.stringify(schema, null, 2)}\n`);
}
files.set(supersededFile, superseded());
if (faults.length > 0) end(faults);
files.set('asyncapi.yaml', asyncApi());
files.set('../subscribe.md', withTable(textOf('../subscribe.md')));

if (process.argv.includes('--check')) {
  const stale = [...files].filter(([file, text]) => textOf(file) !== text).map(([file]) => join('docs/events', file));
  if (stale.length > 0) end([`Not what the types say: ${stale.join(', ')}. npm run events:schemas writes them.`]);
} else {
  for (const [file, text] of files) writeFileSync(join(folder, file), text);
}

function end(lines) {
  for (const line of lines) console.error(line);
  process.exit(1);
}

function textOf(file) {
  const path = join(folder, file);
  return existsSync(path) ? readFileSync(path, 'utf8') : undefined;
}

/**
 * Gives the checksums of the schemas that no release writes any more. A schema that has a checksum must never change.
 */
function superseded() {
  const published = new Map((textOf(supersededFile) ?? '').split('\n').map((line) => line.split('  ').reverse()));
  const old = Object.entries(schemaVersions).flatMap(([type, newest]) =>
    Array.from({ length: newest - 1 }, (_, index) => fileOf(type, index + 1)),
  );
  const lines = old.sort().map((file) => {
    const text = textOf(file);
    const sum = text === undefined ? 'missing' : createHash('sha256').update(text).digest('hex');
    if (text === undefined || sum !== (published.get(file) ?? sum))
      faults.push(
        `docs/events/${file} is not what was published. A version that is no longer written stays as it was: put it back.`,
      );
    return `${sum}  ${file}\n`;
  });
  return lines.join('');
}

/** Reads the types of the events, without those of Node and Jest, which take as long again. */
function schemaGenerator() {
  const { config } = ts.readConfigFile(join(root, 'tsconfig.json'), ts.sys.readFile);
  const { options } = ts.convertCompilerOptionsFromJson({ ...config.compilerOptions, types: [] }, root);
  const program = ts.createProgram(
    models.map(({ types }) => join(root, types)),
    { ...options, noEmit: true },
  );
  const how = { expose: 'none', topRef: false, jsDoc: 'extended' };
  return new SchemaGenerator(program, createParser(program, how), createFormatter(how), how);
}

/** Generates a JSON Schema of the data of each event type, without references. */
function generateSchemas({ types, name, versions }) {
  return Object.entries(versions).map(([type, version]) => {
    const { description, properties } = generator.createSchema(type);
    if (!description) end([`${type} has no comment in ${types}: subscribers need one.`]);
    const head = { $schema: 'http://json-schema.org/draft-07/schema#', $id: dataSchema(type, version) };
    return { type, types, name, schema: { ...head, title: type, description, ...open(properties.data) } };
  });
}

/** Removes the restriction to known properties, since subscribers must accept fields that they do not know. */
function open(schema) {
  return JSON.parse(JSON.stringify(schema, (key, value) => (key === 'additionalProperties' ? undefined : value)));
}

/**
 * Whether each message that fits one schema fits the other. They may differ in descriptions, examples and new optional
 * fields. A field must not become required, since old messages stay in the topic.
 */
function isAddition(before, after) {
  if (Array.isArray(before) && Array.isArray(after)) return isDeepStrictEqual([...before].sort(), [...after].sort());
  if (!isObject(before) || !isObject(after)) return isDeepStrictEqual(before, after);
  const { properties: was = {}, ...restBefore } = before;
  const { properties: is = {}, ...restAfter } = after;
  for (const rest of [restBefore, restAfter])
    for (const words of ['description', 'title', 'examples']) delete rest[words];
  return (
    isDeepStrictEqual(Object.keys(restBefore).sort(), Object.keys(restAfter).sort()) &&
    Object.keys(restBefore).every((key) => isAddition(restBefore[key], restAfter[key])) &&
    Object.keys(was).every((name) => name in is && isAddition(was[name], is[name]))
  );
}

function isObject(value) {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function asyncApi() {
  const examples = new Map([...goldenMessages(), ...exampleMessages()]);
  // In the order of a domain's life. Versions that are no longer written are still in the topic.
  const messages = Object.entries(schemaVersions).flatMap(([type, newest]) =>
    Array.from({ length: newest }, (_, index) => {
      const file = fileOf(type, index + 1);
      return { type, version: index + 1, schema: JSON.parse(files.get(file) ?? textOf(file)) };
    }),
  );
  const nameOf = ({ type, version }) => `${type}.${version}`;
  const document = {
    asyncapi: '3.0.0',
    info: {
      title: 'sendmux-domains: events of mail domains and mailboxes',
      version: '1.0.0',
      description:
        'Every change of every mail domain and mailbox, as CloudEvents 1.0 in the binary mode of the Kafka protocol binding. At least once; in order for each of them. docs/subscribe.md shows how to subscribe.',
      license: { name: 'Apache 2.0', url: 'https://www.apache.org/licenses/LICENSE-2.0' },
    },
    defaultContentType: 'application/json',
    servers: {
      kafka: {
        host: '{broker}',
        protocol: 'kafka',
        description: 'The brokers of KAFKA_BROKERS; with KAFKA_TLS over TLS, with KAFKA_SASL_MECHANISM for users only.',
        variables: { broker: { default: '127.0.0.1:3020', description: 'The default is that of make start KAFKA=1.' } },
      },
    },
    channels: {
      domainEvents: {
        address: 'sendmux.domain-events',
        title: 'Events of mail domains and mailboxes',
        description:
          'One topic for all (KAFKA_TOPIC). The key is the id of the domain or the mailbox, so its events are in order.',
        servers: [{ $ref: '#/servers/kafka' }],
        messages: Object.fromEntries(
          messages.map((each) => [nameOf(each), { $ref: `#/components/messages/${nameOf(each)}` }]),
        ),
        bindings: {
          kafka: { topic: 'sendmux.domain-events', bindingVersion: '0.5.0' },
        },
      },
    },
    operations: {
      publishDomainEvents: {
        action: 'send',
        channel: { $ref: '#/channels/domainEvents' },
        summary: 'event-relay carries every event of the log to the topic, at least once.',
        messages: messages.map((each) => ({ $ref: `#/channels/domainEvents/messages/${nameOf(each)}` })),
      },
    },
    components: {
      messages: Object.fromEntries(
        messages.map((each) => {
          const { type, version, schema } = each;
          const example = version === schemaVersions[type] && examples.get(type);
          return [
            nameOf(each),
            {
              name: `com.sendmux.${type}`,
              title: version === 1 ? type : `${type}, version ${version}`,
              summary: schema.description,
              contentType: 'application/json',
              correlationId: { location: '$message.header#/ce_correlationid' },
              headers: {
                type: 'object',
                allOf: [
                  { $ref: '#/components/schemas/headers' },
                  {
                    properties: {
                      ce_type: { const: `com.sendmux.${type}` },
                      ce_dataschema: { const: dataSchema(type, version) },
                    },
                  },
                ],
              },
              payload: { $ref: `./${fileOf(type, version)}` },
              bindings: { $ref: '#/components/messageBindings/key' },
              ...(example && { examples: [{ headers: example.headers, payload: JSON.parse(example.value) }] }),
            },
          ];
        }),
      ),
      messageBindings: {
        key: {
          kafka: {
            key: {
              type: 'string',
              pattern: `^${stream}$`,
              description: 'The id of the domain or mailbox, as ce_subject.',
            },
            bindingVersion: '0.5.0',
          },
        },
      },
      schemas: { headers: headersSchema() },
    },
  };
  return `# Made by npm run events:schemas, of ${models.map(({ types }) => types).join(' and ')}.\n${stringify(document, { lineWidth: 120, aliasDuplicateObjects: false, compat: 'yaml-1.1' })}`;
}

function headersSchema() {
  const text = (description, more = {}) => ({ type: 'string', description, ...more });
  const required = {
    'content-type': text('Of the value.', { const: 'application/json' }),
    ce_specversion: text('Version of CloudEvents.', { const: '1.0' }),
    ce_id: text(
      '`<ce_subject>/<ce_streamversion>`, and `/<ce_epoch>` where there is one. A message that comes again has the same one.',
      { pattern: eventId },
    ),
    ce_source: text('The product.', { const: '/sendmux-domains' }),
    ce_type: text('What happened: `com.sendmux.` and the event type. Ignore types that you do not know.', {
      pattern: '^com\\.sendmux\\.',
    }),
    ce_dataschema: text('The `$id` of the JSON Schema of the value: event type and schema version.', {
      pattern: '^urn:sendmux:event:[A-Za-z]+:[1-9][0-9]*$',
    }),
    ce_time: text('When it was decided, in UTC.', { format: 'date-time' }),
    ce_subject: text('The id of the domain (`mdom_…`) or the mailbox (`mbx_…`); the key of the message, too.', {
      pattern: `^${stream}$`,
    }),
    ce_partitionkey: text('The same (extension: partitioning).', { pattern: `^${stream}$` }),
    ce_sequence: text('Position in the log of all, growing, with gaps; sorts as text (extension: sequence).', {
      pattern: '^[0-9]{16}$',
    }),
    ce_streamversion: text('The event’s number within its stream, that of ce_subject: 1, 2, 3, without gaps.', {
      pattern: '^[1-9][0-9]*$',
    }),
    ce_actor: text('Who did it: `key_…`, an API key, or the name of an app.'),
    ce_correlationid: text(
      'The same for all events that one request, or one look of the cycle at a domain, set going.',
    ),
  };
  const optional = {
    ce_causationid: text('The ce_id of the event that this one answers. Absent when it answers none.', {
      pattern: eventId,
    }),
    ce_requestid: text('The `request_id` of the API. Absent when no request did it.'),
    ce_traceparent: text(
      'The span that has recorded the event, as W3C Trace Context (extension: distributed tracing). Absent where nothing was traced.',
      { pattern: traceparent },
    ),
    traceparent: text(
      'The span that has published this message. Absent where nothing was traced, where the trace is not sampled, and in replays.',
      { pattern: traceparent },
    ),
    ce_replayid: text(
      'An operator has published the event once more, in this run; its ce_id is that of the first time. Absent otherwise.',
      { pattern: '^rpl_[a-z0-9]+$' },
    ),
    ce_logid: text('The log, for ever the same. Absent until it has been restored to an earlier moment.', {
      pattern: '^[0-9a-f]{32}$',
    }),
    ce_epoch: text('The number of the epoch that a restore of the log has begun; grows. Absent in the first.', {
      pattern: '^[1-9][0-9]*$',
    }),
    ce_epochafter: text(
      'Events of lower epochs whose ce_sequence is above this position are void. It is there with ce_epoch.',
      { pattern: '^[0-9]{16}$' },
    ),
  };
  return { type: 'object', required: Object.keys(required), properties: { ...required, ...optional } };
}

/** Reads a message of each event type from test/golden, for events that are not in the lives below. */
function goldenMessages() {
  const golden = join(root, 'test/golden');
  const names = readdirSync(golden).filter((name) => name.endsWith('.ndjson'));
  const lines = names.sort().flatMap((name) => readFileSync(join(golden, name), 'utf8').trim().split('\n'));
  const written = lines.map(fromLine).filter(({ type, schemaVersion }) => schemaVersion === schemaVersions[type]);
  return new Map(
    written.map((event) => {
      const [data, metadata] = [JSON.parse(event.data), JSON.parse(event.metadata)];
      return [event.type, toCloudEvent(Object.assign({}, event, { data, metadata }))];
    }),
  );
}

/** Inserts the table of all events: the first sentence of the comment of each, and the fields of its data. */
function withTable(text) {
  const rows = Object.entries(schemaVersions).map(([type, version]) => {
    const file = fileOf(type, version);
    const { description, properties = {} } = JSON.parse(files.get(file));
    const [when] = description.replaceAll('\n', ' ').split(/\.(?: |$)/);
    const fields = Object.keys(properties).map((name) => `\`${name}\``);
    return `| [${type}](events/${file}) | ${when} | ${fields.join(', ') || 'nothing'} |\n`;
  });
  return text.replace(/(?<=\| event \| when \| what the value has \|\n\|---\|---\|---\|\n)(\| .*\n)+/, rows.join(''));
}

/** Makes a message of each event type from the lives of two domains and a mailbox, as the models decide them. */
function exampleMessages() {
  const name = 'mail.acme.com';
  const team = 'team_4kz81mq0xw';
  const key = { actor: 'key_cl0mvua1x1sh1wf83emou5i9ti4' };
  const provisioning = { actor: 'provisioning' };
  const request = (id) => ({ requestId: id, correlationId: id });
  const [id, refused] = ['mdom_cl0mvxnscic7xv9szgamnw47l4p', 'mdom_cl0mvxnpry0n3y73mt8uglh14ob'];
  const [failing, adding, verifying, deleting, repairing, choosing] = [
    'req_cl0mvxnprxzrnyt3ai4nzo3lsv4',
    'req_cl0mvxnscib7q0gfx732z2dk371',
    'req_cl0mvxo282v0y4v32zzaubvlyan',
    'req_cl0mvyzei1jj0qchddy7lxmpact',
    'req_cl0mvyz1k4q8w2n7c5x3v9b6t0r',
    'req_cl0mvyz4d7s1h8k2q5w9x3c6v0b',
  ];
  const at = (time, day = '01') => `2026-11-${day}T${time}Z`;
  const provisioned = {
    dkimTokens: [
      'hq3rk5vtz2mx7c4nb6yd8wj9pfsl1ga0',
      'u5x9d2kq7w4n8z1c6m3v0b5t2r9yj4hp',
      'e8t1y6i3o0p7a4s9d2f5g8h1j6k3l0zx',
    ],
    dkimZone: 'dkim.amazonses.com',
    sesRegion: 'eu-west-1',
    sesDkimStatus: 'pending',
  };
  const domain = { name, team, ...provisioned };
  const look = (answers) => records.judge(domain, answers, 'success');
  const inPlace = look(records.answersInPlace(domain));
  const nodata = { kind: 'nodata', aliases: [] };
  const mxGone = look(records.answersInPlace(domain).set('MX', name, [nodata, nodata]));
  const cycle = (start, time) => [
    { ...mxGone, trigger: 'scheduled', cycle: Date.parse(start) },
    { at: time, actor: 'verification-scheduler', correlationId: `${id}/cycle/${Date.parse(start)}` },
  ];
  const commands = [
    new domains.AddDomain(
      refused,
      { name: 'mail.example.com', team, deadline: at('09:58:30.120') },
      { at: at('09:58:00.120'), ...key, ...request(failing) },
    ),
    new domains.FailProvisioning(
      refused,
      { step: 'ses', kind: 'foreign', reason: 'Amazon SES has mail.example.com for somebody else.' },
      { at: at('09:58:00.391'), ...provisioning, correlationId: failing, causationId: `${refused}/1` },
    ),
    new domains.CompleteRollback(refused, {
      at: at('09:58:00.520'),
      ...provisioning,
      correlationId: failing,
      causationId: `${refused}/2`,
    }),
    new domains.AddDomain(
      id,
      { name, team, deadline: at('10:00:30.084') },
      { at: at('10:00:00.084'), ...key, ...request(adding) },
    ),
    new domains.CompleteProvisioning(id, provisioned, {
      at: at('10:00:00.412'),
      ...provisioning,
      correlationId: adding,
      causationId: `${id}/1`,
    }),
    new domains.RecordCheck(
      id,
      { ...inPlace, trigger: 'requested', cycle: null },
      { at: at('10:07:41.903'), ...key, ...request(verifying) },
    ),
    new domains.RecordCheck(id, ...cycle(at('18:00:00.000'), at('18:00:02.337'))),
    new domains.RecordCheck(id, ...cycle(at('00:00:00.000', '02'), at('00:00:01.871', '02'))),
    new domains.RecordOwnersTold(
      id,
      { about: 'failure', notice: 1, owners: 2 },
      {
        at: at('00:00:03.402', '02'),
        actor: 'notifier',
        correlationId: `${id}/cycle/${Date.parse(at('00:00:00.000', '02'))}`,
      },
    ),
    new domains.RequestIdentityRepair(
      id,
      { fault: 'missing' },
      { at: at('07:30:12.208', '02'), ...key, ...request(repairing) },
    ),
    new domains.CompleteIdentityRepair(id, provisioned, {
      at: at('07:30:12.951', '02'),
      ...provisioning,
      correlationId: repairing,
      causationId: `${id}/10`,
    }),
    new domains.ChooseDomainOutboundProvider(
      id,
      { provider: 'mailgun' },
      { at: at('07:41:09.318', '02'), ...key, ...request(choosing) },
    ),
    new domains.RequestDeletion(id, { at: at('08:12:55.640', '02'), ...key, ...request(deleting) }),
    new domains.CompleteDeletion(id, {
      at: at('08:12:55.997', '02'),
      ...provisioning,
      correlationId: deleting,
      causationId: `${id}/13`,
    }),
  ];
  const mailbox = 'mbx_cl0mvxo5a1k9w3x7q2z8c4v6b1n';
  const [creating, suspending, resuming, moving, removing] = [
    'req_cl0mvxo5a0p4s8d2f6g1h5j9k3l',
    'req_cl0mvxo6b2t7y1u5i9o3p7a2s6d',
    'req_cl0mvxo7c4e8r2t6y1u5i9o3p7a',
    'req_cl0mvxo8d6q1w5e9r3t7y2u6i1o',
    'req_cl0mvxo9e8z3x7c2v6b1n5m9q4w',
  ];
  const byKey = (time, id) => ({ at: at(time), ...key, ...request(id) });
  commands.push(
    new mailboxes.CreateMailbox(
      mailbox,
      { address: `ada@${name}`, team, home: { domainId: id, status: 'verified' }, provider: null },
      byKey('10:12:20.507', creating),
    ),
    new mailboxes.UpdateMailbox(
      mailbox,
      { provider: 'mailgun', displayName: 'Ada Lovelace' },
      byKey('10:13:02.118', moving),
    ),
    new mailboxes.SuspendMailbox(mailbox, byKey('11:40:31.220', suspending)),
    new mailboxes.ResumeMailbox(mailbox, byKey('11:58:07.914', resuming)),
    new mailboxes.DeleteMailbox(mailbox, byKey('16:20:45.033', removing)),
    new mailboxes.EraseMailbox(mailbox, { at: at('09:02:17.440', '03'), actor: 'operator', correlationId: mailbox }),
  );
  const states = new Map();
  const examples = new Map();
  // As long as a ciphertext of them is, and the same each time.
  const seal = (personal) =>
    Buffer.concat(
      ['a', 'b', 'c'].map((part) =>
        createHash('sha256')
          .update(part + personal)
          .digest(),
      ),
    )
      .subarray(0, 92)
      .toString('base64');
  const ofMailbox = {
    decide: mailboxes.decideMailbox,
    evolve: mailboxes.evolveMailbox,
    stored: (event) => mailboxes.storedData(event, seal),
  };
  const ofDomain = { decide: domains.decide, evolve: domains.evolve, stored: ({ data }) => data };
  let position = 40;
  for (const command of commands) {
    const { context } = command;
    const { subject, initialState, decide, evolve, stored } =
      'mailboxId' in command
        ? { subject: command.mailboxId, initialState: mailboxes.noMailbox, ...ofMailbox }
        : { subject: command.domainId, initialState: domains.initialState, ...ofDomain };
    const { state, version } = states.get(subject) ?? { state: initialState, version: 0 };
    const events = decide(command, state);
    events.forEach((event, index) => {
      const { type, at: time } = event;
      const { actor, requestId, correlationId, causationId } = context;
      const recorded = {
        stream: subject,
        version: version + index + 1,
        position: ++position,
        type,
        data: stored(event),
        time,
        schemaVersion: schemaVersions[type],
        metadata: { actor, requestId, correlationId, causationId },
      };
      examples.set(type, toCloudEvent(recorded));
    });
    states.set(subject, { state: events.reduce(evolve, state), version: version + events.length });
  }
  return examples;
}
