import { numbers } from '../support/numbers';
import { conversation, type Protocol, type Side } from './messages';

const seed = Number(process.env.SEED ?? 72);

/** A message of PostgreSQL: its type, if any, its length, and its body. */
const pg = (type: string, ...body: (string | Buffer)[]): Buffer => {
  const octets = Buffer.concat(body.map((part) => (typeof part === 'string' ? Buffer.from(part) : part)));
  const length = Buffer.alloc(4);
  length.writeInt32BE(octets.length + 4);
  return Buffer.concat([Buffer.from(type), length, octets]);
};
const version = Buffer.from([0, 3, 0, 0]);
const none = Buffer.alloc(2);
const frame = (type: number, flags: number, body: string): Buffer =>
  Buffer.concat([Buffer.from([0, 0, body.length, type, flags, 0, 0, 0, 1]), Buffer.from(body)]);
const text = (...lines: string[]): Buffer => Buffer.from(lines.join('\r\n'));

/** What two parties say in turn, each message with the name that it should get. */
const talks: Record<Protocol, [Side, Buffer, string][]> = {
  postgres: [
    ['client', pg('', version, 'user\0sendmux\0\0'), 'StartupMessage'],
    ['server', pg('R', Buffer.from([0, 0, 0, 0])), 'Authentication start'],
    ['server', pg('Z', 'I'), 'ReadyForQuery start'],
    ['client', pg('P', 'task-put\0INSERT INTO tasks VALUES ($1)\0', none), 'Parse task-put'],
    ['client', pg('B', '\0task-put\0', none, none, none), 'Bind task-put'],
    ['client', pg('E', '\0', Buffer.alloc(4)), 'Execute task-put'],
    ['client', pg('S'), 'Sync task-put'],
    ['client', pg('Q', "SELECT 12 FROM x WHERE id = 'mdom_clabcdefgh' \0"), 'Query SELECT # FROM x WHERE id = ?'],
    ['server', pg('1'), 'ParseComplete task-put'],
    ['server', pg('2'), 'BindComplete task-put'],
    ['server', pg('C', 'INSERT 0 1\0'), 'CommandComplete task-put'],
    ['server', pg('A', Buffer.alloc(4), 'sendmux_events\0\0'), 'NotificationResponse'],
    ['server', pg('Z', 'I'), 'ReadyForQuery task-put'],
    ['server', pg('D', none), 'DataRow SELECT # FROM x WHERE id = ?'],
    ['server', pg('Z', 'I'), 'ReadyForQuery SELECT # FROM x WHERE id = ?'],
    ['client', pg('B', '\0task-put\0', none, none, none), 'Bind task-put'],
    ['client', pg('X'), 'Terminate'],
  ],
  http: [
    [
      'client',
      text('GET /v2/email/identities/a.example.com?x=1 HTTP/1.1', 'host: a', '', ''),
      'GET /v2/email/identities/*',
    ],
    ['server', text('HTTP/1.1 200 OK', 'Content-Length: 4', '', 'four'), 'answer GET /v2/email/identities/*'],
    ['client', text('POST /v2/tags HTTP/1.1', 'content-length: 6', '', '\r\n\r\nab'), 'POST /v2/tags'],
    ['server', text('HTTP/1.1 100 Continue', '', ''), 'answer POST /v2/tags'],
    [
      'server',
      text('HTTP/1.1 200 OK', 'transfer-encoding: chunked', '', 'a', '0123456789', '1;x=y', '!', '0', '', ''),
      'answer POST /v2/tags',
    ],
    ['client', text('DELETE /domains/mdom_clabcdefgh HTTP/1.1', 'host: a', '', ''), 'DELETE /domains/*'],
    ['server', text('HTTP/1.1 204 No Content', '', ''), 'answer DELETE /domains/*'],
  ],
  http2: [
    ['client', Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'), 'preface'],
    ['client', frame(4, 0, ''), 'SETTINGS'],
    ['server', frame(4, 1, ''), 'answer SETTINGS'],
    ['client', frame(1, 5, 'head'), 'HEADERS END_STREAM'],
    ['server', frame(1, 4, 'head'), 'answer HEADERS'],
    ['server', frame(0, 1, 'PRI * HTTP/2.0'), 'answer DATA END_STREAM'],
  ],
  smtp: [
    ['server', text('220 ready', ''), 'reply to connect'],
    ['client', text('EHLO me', ''), 'EHLO'],
    ['server', text('250-hello', '250-SIZE', '250 PIPELINING', ''), 'reply to EHLO'],
    ['client', text('MAIL FROM:<a@b.example>', ''), 'MAIL'],
    ['server', text('250 ok', ''), 'reply to MAIL'],
    ['client', text('DATA', ''), 'DATA'],
    ['server', text('354 go on', ''), 'reply to DATA'],
    ['client', text('Subject: x', '', 'RSET', '..', '.', ''), 'mail'],
    ['server', text('250 taken', ''), 'reply to mail'],
    ['client', text('QUIT', ''), 'QUIT'],
  ],
};

/** Sends a talk in pieces, each at most so long as `most` says, and gives the messages that are found. */
function heard(protocol: Protocol, most: () => number): [Side, string, string][] {
  const talk = conversation(protocol);
  return talks[protocol].flatMap(([side, octets]) => {
    const found: [Side, string, string][] = [];
    for (let at = 0; at < octets.length;) {
      const end = at + most();
      const piece = octets.subarray(at, end);
      found.push(
        ...talk.push(side, piece).map((each): [Side, string, string] => [side, each.octets.toString('hex'), each.kind]),
      );
      at = end;
    }
    return found;
  });
}

describe.each(Object.keys(talks) as Protocol[])('%s', (protocol) => {
  const said = talks[protocol].map(([side, octets, kind]) => [side, octets.toString('hex'), kind]);

  it('is split into its messages, each with its name', () => expect(heard(protocol, () => 65_536)).toEqual(said));

  it('is split in the same way when it comes octet by octet', () => expect(heard(protocol, () => 1)).toEqual(said));

  it(`is split in the same way whatever the pieces are (seed ${seed})`, () => {
    const next = numbers(seed);
    for (let i = 0; i < 200; i++) expect(heard(protocol, () => 1 + Math.floor(next() * 30))).toEqual(said);
  });

  it('is split in the same way when several messages come in one piece', () => {
    const talk = conversation(protocol);
    const found: string[] = [];
    for (let i = 0; i < talks[protocol].length;) {
      const side = talks[protocol][i]![0];
      let end = i;
      while (talks[protocol][end]?.[0] === side) end++;
      const together = Buffer.concat(talks[protocol].slice(i, end).map(([, octets]) => octets));
      found.push(...talk.push(side, together).map(({ kind }) => kind));
      i = end;
    }
    expect(found).toEqual(talks[protocol].map(([, , kind]) => kind));
  });
});
