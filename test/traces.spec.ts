import { spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { openPool } from '@app/database';
import { KafkaClient, type ReceivedMessage } from '@app/messaging';
import { startEndpoint, type TestEndpoint } from './support/endpoint';
import { kafkaIsInstalled, sharedKafka, type SharedKafka } from './support/kafka';
import { OtlpReceiver, type ExportedSpan } from './support/otlp-receiver';
import { allApps, allAppsOnKafka, startSystem, type ApiClient, type System } from './support/processes';
import { variantsOfRun } from './support/sample';

type Body<Data> = { readonly data: Data };

/** Makes the trace of a client: its id, and the header that it sends. */
function clientTrace(flags = '01') {
  const [traceId, spanId] = [randomBytes(16).toString('hex'), randomBytes(8).toString('hex')];
  return { traceId, spanId, traceparent: `00-${traceId}-${spanId}-${flags}` };
}

/** Gives the spans that are neither the first one of their trace nor below another one of it. */
const orphans = (spans: readonly ExportedSpan[], above: string): string[] => {
  const ids = new Set([above, ...spans.map(({ spanId }) => spanId)]);
  return spans.filter(({ parentSpanId }) => !ids.has(parentSpanId)).map(({ name }) => name);
};

const loaded = resolve(__dirname, 'support/loaded-modules.cjs');
/** The files among those that were loaded that have what batches spans, a part of the SDK that tracing needs. */
const ofOpenTelemetry = (file: string): string[] =>
  readFileSync(file, 'utf8')
    .split('\n')
    .filter(
      (name) =>
        name.endsWith('js') && /class BatchSpanProcessor|BatchSpanProcessor = class/.test(readFileSync(name, 'utf8')),
    );

/**
 * Traces requests through all processes. Kafka is skipped where Java or Maven is missing: see
 * tools/install-counterparts.
 */
describe.each(
  variantsOfRun([
    ['the log', false],
    ['Kafka', true],
  ] as const),
)('traces over %s', (_transport, onKafka) => {
  if (onKafka && !kafkaIsInstalled()) return it.skip('need Java and Maven', () => undefined);

  let kafka: SharedKafka | undefined;
  let receiver: OtlpReceiver;
  let system: System;
  let api: ApiClient;
  let endpoint: TestEndpoint;
  let hook: string;
  let added: { readonly id: string };
  let modules: string;
  const client = clientTrace();

  beforeAll(async () => {
    kafka = onKafka ? await sharedKafka() : undefined;
    receiver = await OtlpReceiver.open();
    modules = mkdtempSync(join(tmpdir(), 'sendmux-modules-'));
    system = await startSystem({
      apps: [...(onKafka ? allAppsOnKafka : allApps), 'webhooks'],
      ...(kafka && { brokers: kafka.brokers }),
      env: {
        PROVISIONING_DEADLINE: '2m',
        OTEL_EXPORTER_OTLP_ENDPOINT: receiver.url,
        OTEL_BSP_SCHEDULE_DELAY: '100',
      },
    });
    ({ api } = await system.team());
    endpoint = await startEndpoint();
    const created = await api.call('POST', '/webhooks', { url: endpoint.url });
    hook = (created.body as Body<{ id: string }>).data.id;
    const answer = await api.add('mail.acme.com', { traceparent: client.traceparent, tracestate: 'vendor=ada' });
    expect(answer.status).toBe(201);
    added = (answer.body as Body<typeof added>).data;
  });
  afterAll(async () => {
    await system?.end();
    await endpoint?.close();
    await receiver?.close();
    rmSync(modules, { recursive: true, force: true });
  });

  const until = (what: string, spans: () => readonly ExportedSpan[]) =>
    system.until(what, () => {
      const found = spans();
      return found.length > 0 ? found : undefined;
    });
  const named = (name: string, traceId = client.traceId) =>
    receiver.spans.filter((span) => span.name === name && span.traceId === traceId);
  const logged = (app: Parameters<System['log']>[0], with_: string) =>
    system
      .log(app)
      .split('\n')
      .filter((line) => line.includes(with_))
      .map((line) => JSON.parse(line) as Record<string, unknown>);

  it('an add is one tree, from the request to the webhook, without an orphan', async () => {
    const isWhole = (spans: readonly ExportedSpan[]) =>
      orphans(spans, client.spanId).length === 0 &&
      ['deliver', 'POST /api/v1/domains', 'provisioning DomainAdded'].every((name) => named(name).length > 0) &&
      named('process DomainProvisioned').some(({ service }) => service === 'sendmux-verification-scheduler');
    await system.until('the trace is whole', () => isWhole(receiver.of(client.traceId)));
    const spans = receiver.of(client.traceId);
    expect(orphans(spans, client.spanId)).toEqual([]);
    expect(spans.filter(({ parentSpanId }) => parentSpanId === client.spanId)).toEqual([
      expect.objectContaining({
        name: 'POST /api/v1/domains',
        service: 'sendmux-gateway',
        kind: 2,
        status: 0,
        attributes: expect.objectContaining({
          'http.route': '/api/v1/domains',
          'http.response.status_code': 201,
        }) as object,
      }),
    ]);
    expect(new Set(spans.map(({ service }) => service))).toEqual(
      new Set([
        'sendmux-gateway',
        'sendmux-provisioning',
        'sendmux-verification-scheduler',
        'sendmux-webhooks',
        ...(onKafka ? ['sendmux-event-relay'] : []),
      ]),
    );
    expect(spans.map(({ name }) => name)).toEqual(
      expect.arrayContaining([
        'POST /api/v1/domains',
        'AddDomain',
        'append',
        'wait for the outcome',
        ...(onKafka ? ['publish'] : []),
        'process DomainAdded',
        'provisioning DomainAdded',
        'mail server INSERT',
        'SES CreateEmailIdentity',
        'wait for a turn at SES',
        'CompleteProvisioning',
        'process DomainProvisioned',
        'deliver',
      ]),
    );
  });

  it('each event has the span that has appended it, and its hash covers that', async () => {
    const pool = openPool(system.databaseUrl, 1);
    const { rows } = await pool.query<{ type: string; metadata: { traceparent: string } }>(
      'SELECT type, metadata FROM events WHERE stream = $1 ORDER BY version LIMIT 2',
      [added.id],
    );
    await pool.end();
    const appended = named('append').map(({ spanId }) => `00-${client.traceId}-${spanId}-01`);
    expect(rows.map(({ metadata }) => metadata.traceparent).every((each) => appended.includes(each))).toBe(true);
    expect(rows.map(({ type }) => type)).toEqual(['DomainAdded', 'DomainProvisioned']);
    expect(JSON.stringify(rows)).not.toContain('vendor');
  });

  it('lines of the log have the ids of the trace beside that of the request', () => {
    const [completed] = logged('gateway', '"msg":"request completed"').filter(
      ({ trace_id }) => trace_id === client.traceId,
    );
    expect(completed).toMatchObject({ trace_id: client.traceId, span_id: named('POST /api/v1/domains')[0]!.spanId });
    expect(logged('gateway', '"DomainAdded"')[0]).toMatchObject({ trace_id: client.traceId });
    expect(logged('provisioning', '"DomainProvisioned"')[0]).toMatchObject({
      trace_id: client.traceId,
      correlation_id: logged('gateway', '"DomainAdded"')[0]!.request_id,
    });
  });

  it('the endpoint of a customer is told of no trace', () => {
    expect(endpoint.arrivals.length).toBeGreaterThan(0);
    for (const { headers } of endpoint.arrivals)
      expect(Object.keys(headers).filter((name) => name.startsWith('trace'))).toEqual([]);
  });

  it('a mail is in the trace of its request, and no span has anything personal or secret', async () => {
    const trace = clientTrace();
    const sent = await api.call(
      'POST',
      `/domains/${added.id}/setup-instructions`,
      { email: 'ada@hosting.example' },
      { traceparent: trace.traceparent },
    );
    expect(sent.status).toBe(202);
    await system.until(
      'it is mailed',
      () =>
        named('send mail', trace.traceId).length > 0 && orphans(receiver.of(trace.traceId), trace.spanId).length === 0,
    );
    expect(named('POST /api/v1/domains/:id/setup-instructions', trace.traceId)).toHaveLength(1);
    expect(named('send mail', trace.traceId)[0]).toMatchObject({ service: 'sendmux-notifier', status: 0 });

    expect((await api.call('POST', '/owners/invitations', { email: 'ada.second@acme.example' })).status).toBe(201);
    await system.until('the invitation is mailed', async () =>
      (await system.sandbox.mails('ada.second@acme.example')).some(() => true),
    );
    await api.call('GET', '/mailboxes/availability?email=ada.third@mail.acme.com');
    await api.call('DELETE', '/owners/invitations/ada.second@acme.example');
    await system.sandbox.place((await api.get(added.id)).body);
    await api.verify(added.id);
    await api.call('POST', '/mailboxes', { address: 'ada@mail.acme.com', display_name: 'Ada' });
    await until('the mailbox is placed', () =>
      receiver.spans.filter(
        ({ name, attributes }) =>
          name.startsWith('placement ') && String(attributes['sendmux.task.of']).startsWith('mbx_'),
      ),
    );
    await until('it is looked at', () => receiver.spans.filter(({ name }) => name === 'ask the resolvers'));
    // What a client has sent as `tracestate` is on the span of its request alone.
    const [stated, ...others] = receiver.spans.filter(({ traceState }) => traceState !== '');
    expect(others).toEqual([]);
    const said = JSON.stringify(
      receiver.spans.map((each) => ({ ...each, ...(each === stated && { traceState: '' }) })),
    );
    // Ids are random, and may have any three letters within.
    expect(said).not.toMatch(/\bada\b|@|%40|acme|smx_|whsec|Bearer/i);
  });

  it.each([
    ['is none', 'ada'],
    ['is too long', `00-${'a'.repeat(32)}-${'b'.repeat(16)}-01${'-c'.repeat(2_000)}`],
    ['has only zeros', `00-${'0'.repeat(32)}-${'0'.repeat(16)}-01`],
  ])('a traceparent that %s is ignored, and a trace begins', async (_how, traceparent) => {
    const answer = await api.call('GET', '/domains', undefined, { traceparent, tracestate: 'x'.repeat(9_000) });
    expect(answer.status).toBe(200);
    const id = answer.headers.get('x-request-id');
    const [span] = await until('the request is traced', () =>
      receiver.spans.filter(({ attributes }) => attributes['sendmux.request_id'] === id),
    );
    expect(span).toMatchObject({ name: 'GET /api/v1/domains', parentSpanId: '', traceState: '' });
  });

  it('a trace that its client does not record is recorded by no process, and the events say so', async () => {
    const trace = clientTrace('00');
    const answer = await api.add('quiet.acme.com', { traceparent: trace.traceparent });
    const { id } = (answer.body as Body<{ id: string }>).data;
    await system.until('it is delivered', () => endpoint.arrivals.some((each) => each.id === `${id}/2`));
    const pool = openPool(system.databaseUrl, 1);
    const { rows } = await pool.query<{ traceparent: string }>(
      `SELECT metadata->>'traceparent' AS traceparent FROM events WHERE stream = $1 ORDER BY version LIMIT 2`,
      [id],
    );
    await pool.end();
    expect(rows).toHaveLength(2);
    for (const { traceparent } of rows) expect(traceparent).toMatch(new RegExp(`^00-${trace.traceId}-.*-00$`));
    // Another request is exported after whatever this one would have left.
    const later = clientTrace();
    await api.call('GET', '/domains', undefined, { traceparent: later.traceparent });
    await until('a later one is there', () => receiver.of(later.traceId));
    expect(receiver.of(trace.traceId)).toEqual([]);
  });

  it('a replay of webhooks has traces of its own, with links', async () => {
    const appended = named('append').map(({ spanId }) => spanId);
    const from = new Date(Date.now() - 3_600_000).toISOString();
    const begun = await api.call('POST', `/webhooks/${hook}/replay`, {
      from,
      to: new Date().toISOString(),
      domains: [added.id],
    });
    expect(begun.status).toBeLessThan(300);
    const [again] = await until('it is delivered', () =>
      receiver.spans.filter(
        ({ name, attributes, links }) =>
          name === 'deliver' &&
          attributes['sendmux.webhook.lane'] === 'replay' &&
          links.some(({ spanId }) => appended.includes(spanId)),
      ),
    );
    expect(again).toMatchObject({ parentSpanId: '' });
    expect(again!.traceId).not.toBe(client.traceId);
  });

  if (onKafka) {
    it('messages have the span of the append, and that of the publish beside it', async () => {
      const messages = await messagesOf(kafka!, system.settings.KAFKA_TOPIC!, `${added.id}/1`);
      expect(messages[0]!.headers.ce_traceparent).toMatch(new RegExp(`^00-${client.traceId}-.*-01$`));
      const published = named('publish').map(({ spanId }) => `00-${client.traceId}-${spanId}-01`);
      expect(published).toContain(messages[0]!.headers.traceparent);
    });

    it('a replay has traces of its own, with links', async () => {
      const appended = named('append').map(({ spanId }) => spanId);
      const run = spawnSync(
        resolve(__dirname, '../bin/sendmux'),
        ['events', 'republish', '--from', '-1h', '--to', 'now', '--domain', added.id],
        {
          encoding: 'utf8',
          env: { ...system.settings, PATH: process.env.PATH },
        },
      );
      expect(run.stderr + run.stdout).toMatch(/rpl_/);
      const [again] = await until('it is handled', () =>
        receiver.spans.filter(({ name, attributes }) => name === 'process DomainAdded' && attributes['sendmux.replay']),
      );
      expect(again).toMatchObject({ parentSpanId: '', kind: 5 });
      expect(again!.traceId).not.toBe(client.traceId);
      expect(appended).toContain(again!.links[0]!.spanId);
    });
  }

  it('OpenTelemetry is loaded where a collector is named, and nothing of it where none is', async () => {
    await system.stop('notifier');
    const files = ['with', 'without'].map((name) => join(modules, name));
    for (const [i, file] of files.entries()) {
      const env = { NODE_OPTIONS: `--require ${loaded}`, LOADED_MODULES_FILE: file };
      await system.start('notifier', { ...env, ...(i === 1 && { OTEL_EXPORTER_OTLP_ENDPOINT: '' }) });
      await system.stop('notifier');
      expect(existsSync(file)).toBe(true);
    }
    expect(ofOpenTelemetry(files[0]!)).not.toEqual([]);
    expect(ofOpenTelemetry(files[1]!)).toEqual([]);
  });
});

/** Reads the messages of a topic until the one of an event is there. */
async function messagesOf({ brokers }: SharedKafka, topic: string, id: string): Promise<ReceivedMessage[]> {
  const reader = new KafkaClient({ brokers, tls: false }, 'test');
  const found: ReceivedMessage[] = [];
  let done: () => void = () => undefined;
  const complete = new Promise<void>((resolve) => (done = resolve));
  const member = await reader.member(`traces-${randomBytes(4).toString('hex')}`, topic, {
    assigned: () => undefined,
    rebalancing: () => undefined,
    crashed: () => undefined,
    records: (_partition, messages) => {
      found.push(...messages.filter(({ headers }) => headers.ce_id === id));
      if (found.length > 0) done();
    },
  });
  await complete;
  await member.close();
  return found;
}
