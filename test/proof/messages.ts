/**
 * Splits what two parties send each other into the messages of their protocol, whatever the pieces are in which TCP
 * brings it. Each kind of message has a name, so that "the third answer to this statement" means the same in each run.
 */
export interface Message {
  readonly octets: Buffer;
  /** Such as `Bind task-claim` or `POST /v2/email/identities`. */
  readonly kind: string;
}

export type Side = 'client' | 'server';

/** What is said on one connection. */
export interface Conversation {
  /** Gives the messages that are complete now; the rest waits for the next piece. */
  push(side: Side, piece: Buffer): Message[];
}

export type Protocol = 'postgres' | 'http' | 'http2' | 'smtp';

export const conversation = (protocol: Protocol): Conversation => {
  switch (protocol) {
    case 'postgres':
      return new PostgresConversation();
    case 'http':
      return new HttpConversation();
    case 'http2':
      return new Http2Conversation();
    case 'smtp':
      return new SmtpConversation();
  }
};

/** What came from one side and is no whole message yet. */
class Pending {
  octets: Buffer = Buffer.alloc(0);

  add(piece: Buffer): void {
    this.octets = this.octets.length === 0 ? piece : Buffer.concat([this.octets, piece]);
  }

  take(length: number): Buffer {
    const taken = this.octets.subarray(0, length);
    this.octets = this.octets.subarray(length);
    return taken;
  }
}

abstract class Framed implements Conversation {
  private readonly pending = { client: new Pending(), server: new Pending() };

  push(side: Side, piece: Buffer): Message[] {
    const pending = this.pending[side];
    pending.add(piece);
    const messages: Message[] = [];
    for (;;) {
      const length = this.lengthOf(side, pending.octets);
      if (length === undefined || length > pending.octets.length) return messages;
      const octets = pending.take(length);
      messages.push({ octets, kind: this.kindOf(side, octets) });
    }
  }

  /** Gives the length of the first message; undefined where that is not known yet. */
  protected abstract lengthOf(side: Side, octets: Buffer): number | undefined;
  /** Names a message. It is called once for each, in the order in which they were sent. */
  protected abstract kindOf(side: Side, octets: Buffer): string;
}

/** Ids, names and numbers differ from run to run, and a name of a case has to pass a shell. */
const shortened = (text: string): string =>
  text
    .replace(/\s+/g, ' ')
    .trim()
    .replace(/\b[a-z]+_[a-z0-9]{8,}\b/g, '*')
    .replace(/'[^']*'|\$\d+/g, '?')
    .replace(/["|]/g, '')
    .replace(/(?<!\w)\d+/g, '#')
    .slice(0, 60)
    .trim();

/** Frontend and backend messages by their first octet (PostgreSQL 18, section 54.7). */
const frontend: Record<string, string> = {
  B: 'Bind',
  C: 'Close',
  d: 'CopyData',
  c: 'CopyDone',
  f: 'CopyFail',
  D: 'Describe',
  E: 'Execute',
  H: 'Flush',
  P: 'Parse',
  p: 'Password',
  Q: 'Query',
  S: 'Sync',
  X: 'Terminate',
};
const backend: Record<string, string> = {
  R: 'Authentication',
  K: 'BackendKeyData',
  '2': 'BindComplete',
  '3': 'CloseComplete',
  C: 'CommandComplete',
  d: 'CopyData',
  c: 'CopyDone',
  G: 'CopyInResponse',
  H: 'CopyOutResponse',
  D: 'DataRow',
  I: 'EmptyQueryResponse',
  E: 'ErrorResponse',
  v: 'NegotiateProtocolVersion',
  n: 'NoData',
  N: 'NoticeResponse',
  A: 'NotificationResponse',
  t: 'ParameterDescription',
  S: 'ParameterStatus',
  '1': 'ParseComplete',
  s: 'PortalSuspended',
  Z: 'ReadyForQuery',
  T: 'RowDescription',
};

const sslRequest = 80_877_103;
const cancelRequest = 80_877_102;

/** PostgreSQL's own protocol, version 3. Messages are named with the statement that they are about. */
class PostgresConversation extends Framed {
  private isStarted = false;
  private awaitsOctet = false;
  private statement = 'start';
  private readonly prepared = new Map<string, string>();
  /** The statements whose answers are still to come, each up to its `ReadyForQuery`. */
  private readonly asked: string[] = ['start'];

  protected lengthOf(side: Side, octets: Buffer): number | undefined {
    if (side === 'server' && this.awaitsOctet) return octets.length > 0 ? 1 : undefined;
    const head = side === 'client' && !this.isStarted ? 0 : 1;
    return octets.length < head + 4 ? undefined : head + octets.readInt32BE(head);
  }

  protected kindOf(side: Side, octets: Buffer): string {
    return side === 'client' ? this.ofClient(octets) : this.ofServer(octets);
  }

  private ofClient(octets: Buffer): string {
    if (!this.isStarted) {
      const code = octets.readInt32BE(4);
      if (code === sslRequest) {
        this.awaitsOctet = true;
        return 'SSLRequest';
      }
      if (code === cancelRequest) return 'CancelRequest';
      this.isStarted = true;
      return 'StartupMessage';
    }
    const type = String.fromCharCode(octets[0]!);
    const text = (from: number): string => octets.toString('utf8', from, octets.indexOf(0, from));
    if (type === 'P') {
      const name = text(5);
      this.statement = name || shortened(text(6 + name.length));
      this.prepared.set(name, this.statement);
    } else if (type === 'B') {
      const portal = octets.indexOf(0, 5);
      this.statement = this.prepared.get(text(portal + 1)) ?? this.statement;
    } else if (type === 'Q') this.statement = shortened(text(5));
    if (type === 'Q' || type === 'S') this.asked.push(this.statement);
    if (type === 'X' || type === 'p') return frontend[type]!;
    return `${frontend[type] ?? type} ${this.statement}`;
  }

  private ofServer(octets: Buffer): string {
    if (this.awaitsOctet) {
      this.awaitsOctet = false;
      return 'SSLResponse';
    }
    const type = String.fromCharCode(octets[0]!);
    const name = backend[type] ?? type;
    if (type === 'A' || type === 'N') return name;
    const about = this.asked[0] ?? this.statement;
    if (type === 'Z') this.asked.shift();
    return `${name} ${about}`;
  }
}

/** HTTP/1.1 (RFC 9112): a message is a whole request or a whole answer, its body included. */
class HttpConversation extends Framed {
  /** The methods of the requests that have no answer yet, each with its name. */
  private readonly asked: { readonly method: string; readonly kind: string }[] = [];

  protected lengthOf(side: Side, octets: Buffer): number | undefined {
    const end = octets.indexOf('\r\n\r\n');
    if (end < 0) return undefined;
    const head = octets.toString('latin1', 0, end);
    const body = end + 4;
    if (side === 'server') {
      const status = Number(head.slice(9, 12));
      if (status < 200 || status === 204 || status === 304 || this.asked[0]?.method === 'HEAD') return body;
    }
    if (/^transfer-encoding:.*\bchunked\b/im.test(head)) return endOfChunks(octets, body);
    return body + Number(/^content-length:\s*(\d+)/im.exec(head)?.[1] ?? 0);
  }

  protected kindOf(side: Side, octets: Buffer): string {
    const [line = ''] = octets.toString('latin1', 0, 2_048).split('\r\n', 1);
    if (side === 'client') {
      const [method = '', path = ''] = line.split(' ');
      const named = path
        .split('?', 1)[0]!
        .split('/')
        .map((part) => (/\.|_[a-z0-9]{8}|%|\d{4}/.test(part) ? '*' : part))
        .join('/');
      const kind = `${method} ${named}`;
      this.asked.push({ method, kind });
      return kind;
    }
    const status = line.split(' ')[1] ?? '';
    const kind = `answer ${this.asked[0]?.kind ?? ''}`;
    if (!status.startsWith('1')) this.asked.shift();
    return kind;
  }
}

/** Gives where a body in chunks ends (RFC 9112 section 7.1); undefined where that is still to come. */
function endOfChunks(octets: Buffer, from: number): number | undefined {
  for (let at = from; ;) {
    const line = octets.indexOf('\r\n', at);
    if (line < 0) return undefined;
    const size = Number.parseInt(octets.toString('latin1', at, line), 16);
    if (size === 0) {
      // Trailers, if any, end with an empty line.
      const end = octets.indexOf('\r\n\r\n', line);
      return end < 0 ? undefined : end + 4;
    }
    at = line + 2 + size + 2;
  }
}

const preface = 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n';
const frames = [
  'DATA',
  'HEADERS',
  'PRIORITY',
  'RST_STREAM',
  'SETTINGS',
  'PUSH_PROMISE',
  'PING',
  'GOAWAY',
  'WINDOW_UPDATE',
  'CONTINUATION',
];

/** HTTP/2 (RFC 9113) in clear text: a message is a frame. */
class Http2Conversation extends Framed {
  private isStarted = false;

  protected lengthOf(side: Side, octets: Buffer): number | undefined {
    if (side === 'client' && !this.isStarted) return preface.length;
    return octets.length < 9 ? undefined : 9 + octets.readUIntBE(0, 3);
  }

  protected kindOf(side: Side, octets: Buffer): string {
    if (side === 'client' && !this.isStarted) {
      this.isStarted = true;
      return 'preface';
    }
    const type = octets[3]!;
    const isLast = type <= 1 && (octets[4]! & 1) === 1;
    return `${side === 'client' ? '' : 'answer '}${frames[type] ?? type}${isLast ? ' END_STREAM' : ''}`;
  }
}

/** SMTP (RFC 5321): commands, replies of one or more lines, and the mail as one message. */
class SmtpConversation extends Framed {
  private command = 'connect';
  private isMail = false;

  protected lengthOf(side: Side, octets: Buffer): number | undefined {
    if (side === 'client') {
      const end = octets.indexOf(this.isMail ? '\r\n.\r\n' : '\r\n');
      return end < 0 ? undefined : end + (this.isMail ? 5 : 2);
    }
    for (let at = 0; ;) {
      const end = octets.indexOf('\r\n', at);
      if (end < 0) return undefined;
      if (octets[at + 3] !== 0x2d) return end + 2;
      at = end + 2;
    }
  }

  protected kindOf(side: Side, octets: Buffer): string {
    if (side === 'client') {
      this.command = this.isMail ? 'mail' : octets.toString('latin1', 0, 4).trim().toUpperCase();
      this.isMail = false;
      return this.command;
    }
    if (octets.toString('latin1', 0, 3) === '354') this.isMail = true;
    return `reply to ${this.command}`;
  }
}
