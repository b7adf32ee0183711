import { createConnection, type Socket } from 'node:net';
import { once } from 'node:events';

export interface RawAnswer {
  readonly status: number;
  readonly headers: Headers;
  /** An error, in the form of all errors; a test looks at `status` first. */
  readonly body: {
    readonly ok: boolean;
    readonly error: { readonly code: string; readonly message: string };
    readonly meta: object;
  };
}

/** Opens a connection and sends octets, as no HTTP client would. */
export async function open(port: number, sent: string | Buffer = ''): Promise<Socket> {
  const socket = createConnection(port, '127.0.0.1');
  socket.on('error', () => undefined);
  await once(socket, 'connect');
  if (sent.length > 0) socket.write(sent);
  return socket;
}

/** Sends octets, and gives all that comes back until the server closes the connection. */
export async function exchange(port: number, sent: string | Buffer): Promise<string> {
  return untilClosed(await open(port, sent));
}

/** Gives all that comes until the server closes the connection. */
export async function untilClosed(socket: Socket): Promise<string> {
  const chunks: Buffer[] = [];
  socket.on('data', (chunk: Buffer) => chunks.push(chunk));
  if (!socket.closed) await once(socket, 'close');
  return Buffer.concat(chunks).toString('utf8');
}

/** Reads the only answer in a text. */
export function answerIn(text: string): RawAnswer {
  const end = text.indexOf('\r\n\r\n');
  const [line = '', ...fields] = text.slice(0, end).split('\r\n');
  const headers = new Headers(
    fields.map((field): [string, string] => [field.split(':', 1)[0]!, field.slice(field.indexOf(':') + 1).trim()]),
  );
  const body = text.slice(end + 4);
  return {
    status: Number(line.split(' ')[1]),
    headers,
    body: (body === '' ? undefined : JSON.parse(body)) as RawAnswer['body'],
  };
}
