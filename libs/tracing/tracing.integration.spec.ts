import { OtlpReceiver } from '../../test/support/otlp-receiver';
import type { Attributes, TracingOptions } from './span';
import { carried, endTracing, openTrace, runIn, span, startTracing, trace, traceIds } from './tracing';

const parent = '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01';
const traceId = parent.slice(3, 35);

let receiver: OtlpReceiver;
let failures: string[];

const start = async (options: Partial<TracingOptions> = {}) => {
  process.env.OTEL_EXPORTER_OTLP_ENDPOINT = receiver.url;
  await startTracing({
    service: 'test',
    sampler: 'parentbased_always_on',
    ratio: 1,
    exportEveryMs: 20,
    mostWaiting: 512,
    failed: (reason) => failures.push(reason),
    ...options,
  });
};
const spanNamed = (name: string) => receiver.spans.find((each) => each.name === name)!;

beforeEach(async () => {
  receiver = await OtlpReceiver.open();
  failures = [];
});
afterEach(async () => {
  receiver.behaviour = 'take';
  await endTracing();
  await receiver.close();
  for (const name of Object.keys(process.env)) if (name.startsWith('OTEL_')) delete process.env[name];
});

it('spans are exported with their parents, kinds and attributes', async () => {
  process.env.OTEL_RESOURCE_ATTRIBUTES = 'deployment.environment.name=test';
  await start();
  await trace('above', { kind: 'consumer', parent, attributes: { a: 'b', c: 1, d: true } }, () =>
    span('below', { kind: 'client' }, (recorded) => (recorded.set({ e: 0.5, f: undefined }), Promise.resolve())),
  );
  await endTracing();
  expect(spanNamed('above')).toMatchObject({
    service: 'test',
    traceId,
    parentSpanId: '00f067aa0ba902b7',
    kind: 5,
    attributes: { a: 'b', c: 1, d: true },
    status: 0,
  });
  expect(spanNamed('below')).toMatchObject({ traceId, kind: 3, attributes: { e: 0.5 } });
  expect(spanNamed('below').parentSpanId).toBe(spanNamed('above').spanId);
});

it('the running span is carried and logged, and what it leads to elsewhere is below it', async () => {
  await start();
  let given = '';
  await trace('here', {}, () => {
    given = carried()!.traceparent;
    expect(given).toBe(`00-${traceIds().trace_id}-${traceIds().span_id}-01`);
    return Promise.resolve();
  });
  await trace('there', { parent: given }, () => Promise.resolve());
  await trace('later', { link: given }, () => Promise.resolve());
  await endTracing();
  expect(spanNamed('here').parentSpanId).toBe('');
  expect(spanNamed('there').parentSpanId).toBe(spanNamed('here').spanId);
  expect(spanNamed('later')).toMatchObject({ parentSpanId: '', links: [{ spanId: spanNamed('here').spanId }] });
  expect(spanNamed('later').traceId).not.toBe(spanNamed('here').traceId);
});

it('an error is named and not quoted, and reaches the caller', async () => {
  await start();
  const error = Object.assign(new TypeError('ada@acme.com is wrong'), { code: 'EAUTH' });
  await expect(trace('fails', {}, () => Promise.reject(error))).rejects.toBe(error);
  await endTracing();
  expect(spanNamed('fails')).toMatchObject({ status: 2, attributes: { 'error.type': 'TypeError EAUTH' } });
  expect(JSON.stringify(receiver.spans)).not.toMatch(/\bada\b/);
});

it.each([
  [{ name: 'no mailbox of ada@acme.com' }, 'Error'],
  [{ name: 'x'.repeat(10_000), code: 'ECONNRESET' }, 'Error ECONNRESET'],
  [{ name: 'NotFoundException', code: '550 ada@acme.com' }, 'NotFoundException'],
])('an error of a counterpart is named by words alone: %#', async (said, named) => {
  await start();
  await expect(trace('fails', {}, () => Promise.reject(Object.assign(new Error(), said)))).rejects.toThrow();
  await endTracing();
  expect(spanNamed('fails').attributes).toEqual({ 'error.type': named });
});

it('a trace that is not recorded carries that on, and has no spans', async () => {
  await start({ sampler: 'parentbased_always_off' });
  await trace('off', {}, () => {
    expect(carried()!.traceparent).toMatch(/-00$/);
    return span('below', {}, (recorded) => Promise.resolve(expect(recorded.isSampled).toBe(false)));
  });
  await trace('on', { parent }, () => Promise.resolve());
  await endTracing();
  expect(receiver.spans.map(({ name }) => name)).toEqual(['on']);
});

it('a sampler by ratio takes its share', async () => {
  await start({ sampler: 'traceidratio', ratio: 0.25, mostWaiting: 5_000 });
  const taken: string[] = [];
  for (let i = 0; i < 2_000; i++) {
    const opened = openTrace('each', {})!;
    if (opened.isSampled) taken.push(opened.traceparent);
    else expect(opened.traceparent).toMatch(/^00-[\da-f]{32}-[\da-f]{16}-00$/);
    opened.end();
  }
  await endTracing();
  expect(receiver.spans.map((each) => `00-${each.traceId}-${each.spanId}-01`)).toEqual(taken);
  expect(receiver.spans.length).toBeGreaterThan(350);
  expect(receiver.spans.length).toBeLessThan(650);
});

it.each([
  ['is none', 'no trace'],
  ['is of no length that a version has', `00-${traceId}-${'f'.repeat(5_000)}-01`],
  ['has zeros', `00-${'0'.repeat(32)}-00f067aa0ba902b7-01`],
  ['comes twice', `${parent}, ${parent}`],
])('a parent that %s begins a trace', async (_how, text) => {
  await start();
  const opened = openTrace('new', { parent: text, link: text, state: 'a='.repeat(10_000) })!;
  runIn(opened, () => expect(carried()!.traceparent).toBe(opened.traceparent));
  opened.end();
  await endTracing();
  expect(spanNamed('new')).toMatchObject({ parentSpanId: '', links: [], traceState: '' });
  expect(spanNamed('new').traceId).not.toBe(traceId);
});

it('the state that comes with a parent is on the span alone, and is not carried', async () => {
  await start();
  const opened = openTrace('new', { parent, state: 'vendor=1' })!;
  await runIn(opened, () => span('below', {}, () => Promise.resolve()));
  opened.end();
  await endTracing();
  expect(spanNamed('new').traceState).toBe('vendor=1');
  expect(spanNamed('below')).toMatchObject({ traceId, parentSpanId: spanNamed('new').spanId, traceState: '' });
  expect(opened.traceparent).not.toContain('vendor');
});

it('the headers of an export are those of that moment, and those for traces alone come first', async () => {
  process.env.OTEL_EXPORTER_OTLP_TRACES_HEADERS = 'tenant=traces';
  let key = 'first';
  await start({ headers: () => `authorization=Bearer%20${key},tenant=all` });
  for (key of ['first', 'second']) {
    const before = receiver.requests;
    openTrace('each', {})!.end();
    while (receiver.requests === before) await new Promise((resolve) => setTimeout(resolve, 5));
    expect(receiver.headers).toMatchObject({ authorization: `Bearer ${key}`, tenant: 'traces' });
  }
});

it('a long text is cut', async () => {
  await start();
  const attributes: Attributes = { long: 'x'.repeat(100_000) };
  openTrace('cut', { attributes })!.end();
  await endTracing();
  expect(spanNamed('cut').attributes.long).toHaveLength(500);
});

it.each(['hang', 'refuse'] as const)('a collector that would %s holds up nothing, and is told of', async (how) => {
  process.env.OTEL_EXPORTER_OTLP_TIMEOUT = '100';
  receiver.behaviour = how;
  await start();
  const before = performance.now();
  for (let i = 0; i < 20_000; i++) await trace('each', {}, () => Promise.resolve());
  expect(performance.now() - before).toBeLessThan(4_000);
  while (receiver.requests === 0 || failures.length === 0) await new Promise((resolve) => setTimeout(resolve, 20));
  receiver.behaviour = 'take';
  await trace('after', {}, () => Promise.resolve());
  while (!spanNamed('after')) await new Promise((resolve) => setTimeout(resolve, 20));
  // What waited was bounded: at most what fits, and two batches that were on their way.
  expect(receiver.spans.length).toBeLessThan(2_000);
});

it('the end waits three seconds at most', async () => {
  process.env.OTEL_EXPORTER_OTLP_TIMEOUT = '4000';
  receiver.behaviour = 'hang';
  await start();
  await trace('last', {}, () => Promise.resolve());
  const before = performance.now();
  await endTracing();
  expect(performance.now() - before).toBeLessThan(4_500);
});
