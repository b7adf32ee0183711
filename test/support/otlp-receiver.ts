import { once } from 'node:events';
import { createServer, type IncomingHttpHeaders, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';

/** A span as it was exported. */
export interface ExportedSpan {
  readonly service: string;
  readonly traceId: string;
  readonly spanId: string;
  /** Empty for the first span of a trace. */
  readonly parentSpanId: string;
  readonly traceState: string;
  readonly name: string;
  /** When it began and ended, in milliseconds since the epoch. */
  readonly startMs: number;
  readonly endMs: number;
  /** The kind, by the number of OpenTelemetry: 1 internal, 2 server, 3 client, 4 producer, 5 consumer. */
  readonly kind: number;
  readonly attributes: Readonly<Record<string, string | number | boolean>>;
  readonly links: readonly { readonly traceId: string; readonly spanId: string }[];
  /** 2 for an error. */
  readonly status: number;
}

/** A collector on loopback that keeps the spans of all processes. */
export class OtlpReceiver {
  readonly spans: ExportedSpan[] = [];
  /** What it does with an export. */
  behaviour: 'take' | 'refuse' | 'hang' = 'take';
  /** Requests that have come, whatever became of them. */
  requests = 0;
  /** The headers of the last request. */
  headers: IncomingHttpHeaders = {};

  private constructor(private readonly server: Server) {}

  static async open(): Promise<OtlpReceiver> {
    const server = createServer();
    const receiver = new OtlpReceiver(server);
    server.on('request', (request, response) => {
      const chunks: Buffer[] = [];
      request
        .on('data', (chunk: Buffer) => chunks.push(chunk))
        .on('end', () => {
          receiver.requests++;
          receiver.headers = request.headers;
          if (receiver.behaviour === 'hang') return;
          if (receiver.behaviour === 'refuse') return void response.writeHead(400).end();
          receiver.spans.push(...exportedSpans(Buffer.concat(chunks)));
          response.writeHead(200, { 'content-type': 'application/x-protobuf' }).end();
        });
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    return receiver;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.server.address() as AddressInfo).port}`;
  }

  /** The spans of a trace. */
  of(traceId: string): ExportedSpan[] {
    return this.spans.filter((span) => span.traceId === traceId);
  }

  async close(): Promise<void> {
    this.server.close();
    this.server.closeAllConnections();
    await once(this.server, 'close');
  }
}

/** A field of a message of protobuf: its number, and its octets or its number. */
type Field = readonly [number, Buffer | bigint];

function* fieldsOf(message: Buffer): Generator<Field> {
  let at = 0;
  const varint = (): bigint => {
    let value = 0n;
    for (let shift = 0n; ; shift += 7n) {
      const octet = message[at++]!;
      value |= BigInt(octet & 0x7f) << shift;
      if (octet < 0x80) return value;
    }
  };
  while (at < message.length) {
    const tag = Number(varint());
    const [number, type] = [tag >> 3, tag & 7];
    if (type === 0) yield [number, varint()];
    else {
      const length = type === 1 ? 8 : type === 5 ? 4 : Number(varint());
      yield [number, message.subarray(at, at + length)];
      at += length;
    }
  }
}

const all = (message: Buffer, number: number): Buffer[] =>
  [...fieldsOf(message)].flatMap(([field, value]) => (field === number ? [value as Buffer] : []));
const text = (message: Buffer, number: number): string => all(message, number)[0]?.toString() ?? '';
const hex = (message: Buffer, number: number): string => all(message, number)[0]?.toString('hex') ?? '';
const whole = (message: Buffer, number: number): number =>
  Number([...fieldsOf(message)].find(([field]) => field === number)?.[1] ?? 0);

/** Gives a time in nanoseconds since the epoch as milliseconds. */
const timeMs = (message: Buffer, number: number): number =>
  Number(all(message, number)[0]?.readBigUInt64LE() ?? 0n) / 1_000_000;

/** Reads `KeyValue` messages (opentelemetry/proto/common/v1/common.proto). */
const attributesOf = (entries: readonly Buffer[]): ExportedSpan['attributes'] =>
  Object.fromEntries(
    entries.map((entry): [string, string | number | boolean] => {
      const [field, value] = [...fieldsOf(all(entry, 2)[0]!)][0]!;
      if (field === 1) return [text(entry, 1), value.toString()];
      if (field === 4) return [text(entry, 1), (value as Buffer).readDoubleLE()];
      return [text(entry, 1), field === 2 ? value === 1n : Number(value)];
    }),
  );

/** Reads an `ExportTraceServiceRequest` (opentelemetry/proto/trace/v1/trace.proto). */
function exportedSpans(request: Buffer): ExportedSpan[] {
  return all(request, 1).flatMap((ofResource) => {
    const { 'service.name': service } = attributesOf(all(all(ofResource, 1)[0]!, 1));
    return all(ofResource, 2).flatMap((ofScope) =>
      all(ofScope, 2).map((span) => ({
        service: String(service),
        traceId: hex(span, 1),
        spanId: hex(span, 2),
        traceState: text(span, 3),
        parentSpanId: hex(span, 4),
        name: text(span, 5),
        startMs: timeMs(span, 7),
        endMs: timeMs(span, 8),
        kind: whole(span, 6),
        attributes: attributesOf(all(span, 9)),
        links: all(span, 13).map((link) => ({ traceId: hex(link, 1), spanId: hex(link, 2) })),
        status: whole(all(span, 15)[0] ?? Buffer.alloc(0), 3),
      })),
    );
  });
}
