import { createServer, type Http2Server, type ServerHttp2Session, type ServerHttp2Stream } from 'node:http2';
import { createServer as createTcpServer, type AddressInfo, type Socket } from 'node:net';
import * as packet from 'dns-packet';
import { bindIsInstalled, startBind, type Bind } from '../../test/support/bind';
import { DohClient } from './doh-client';

type Handler = (stream: ServerHttp2Stream, query: packet.Packet) => void;

const answerTo = (query: packet.Packet): Buffer =>
  packet.encode({
    type: 'response',
    id: query.id,
    questions: query.questions,
    answers: [{ type: 'TXT', name: query.questions![0]!.name, data: 'here' }],
  });
const headers = { ':status': 200, 'content-type': 'application/dns-message' };
const good: Handler = (stream, query) => {
  stream.respond(headers);
  stream.end(answerTo(query));
};

describe('a resolver over HTTP/2', () => {
  let server: Http2Server;
  let handle: Handler;
  let client: DohClient;
  let url: string;
  let open = 0;
  let most = 0;
  const sessions = new Set<ServerHttp2Session>();
  let opened = 0;

  beforeAll(async () => {
    server = createServer();
    server.on('session', (session) => {
      opened++;
      sessions.add(session);
      session.on('close', () => sessions.delete(session));
      session.on('error', () => undefined);
    });
    server.on('stream', (stream, request) => {
      most = Math.max(most, ++open);
      stream.on('close', () => open--);
      stream.on('error', () => undefined);
      const dns = new URL(request[':path']!, 'http://x').searchParams.get('dns')!;
      handle(stream, packet.decode(Buffer.from(dns, 'base64url')));
    });
    await new Promise<void>((ready) => server.listen(0, '127.0.0.1', ready));
    url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/dns-query`;
  });
  beforeEach(() => {
    handle = good;
    opened = 0;
    client = new DohClient({ url, timeoutMs: 400, sessions: 1, streams: 20 });
  });
  afterEach(() => client.close());
  afterAll(async () => {
    for (const session of sessions) session.destroy();
    await new Promise((closed) => server.close(closed));
  });

  const here = { kind: 'records', records: ['here'], aliases: [] };

  it('answers', async () => expect(await client.txt('mail.acme.com')).toMatchObject(here));

  it('H22 sends one query for concurrent equal questions, and a new one afterwards', async () => {
    let asked = 0;
    handle = (stream, query) => (asked++, good(stream, query));
    const answers = await Promise.all(Array.from({ length: 50 }, () => client.txt('_spf.acme.com')));
    expect(answers.every(({ kind }) => kind === 'records')).toBe(true);
    expect(asked).toBe(1);
    await Promise.all([client.txt('_spf.acme.com'), client.txt('other.acme.com')]);
    expect(asked).toBe(3);
  });

  describe('a SERVFAIL', () => {
    const servfail: Handler = (stream, query) => {
      stream.respond(headers);
      stream.end(packet.encode({ type: 'response', id: 0, flags: 2, questions: query.questions }));
    };
    let asked: string[];
    /** Answers queries with the CD bit by the first handler, and each query without it by the next of the others. */
    const play = (unchecked: Handler, ...checked: Handler[]) => {
      asked = [];
      handle = (stream, query) => {
        const { flag_cd } = query as packet.DecodedPacket;
        asked.push(flag_cd ? 'CD=1' : 'CD=0');
        (flag_cd ? unchecked : (checked.shift() ?? servfail))(stream, query);
      };
    };
    it('G4 that is answered without validation, and is repeated with it, is bogus', async () => {
      play(good);
      expect(await client.txt('mail.acme.com')).toMatchObject({ kind: 'servfail', evidence: { bogus: true } });
      expect(asked).toEqual(['CD=0', 'CD=1', 'CD=0']);
    });
    it('H12 without validation as well is a fault of the name servers', async () => {
      play(servfail);
      expect(await client.txt('mail.acme.com')).toEqual({ kind: 'servfail', evidence: { authenticated: false } });
      expect(asked).toEqual(['CD=0', 'CD=1']);
    });
    it('that has passed when it is asked again does not count', async () => {
      play(good, servfail, good);
      expect(await client.txt('mail.acme.com')).toMatchObject(here);
    });
  });

  it.each<[string, Handler, RegExp]>([
    ['status 302', (stream) => stream.respond({ ':status': 302, location: '/x' }, { endStream: true }), /status 302/],
    ['status 500', (stream) => stream.respond({ ':status': 500 }, { endStream: true }), /status 500/],
    [
      'another content type',
      (stream, query) => (stream.respond({ ':status': 200, 'content-type': 'text/html' }), stream.end(answerTo(query))),
      /content type text\/html/,
    ],
    [
      'no content type',
      (stream, query) => (stream.respond({ ':status': 200 }), stream.end(answerTo(query))),
      /content type none/,
    ],
    ['nothing in it', (stream) => (stream.respond(headers), stream.end()), /cannot be read/],
    ['no answer', () => undefined, /no answer within 400 ms/],
    ['headers and no body', (stream) => stream.respond(headers), /no answer within 400 ms/],
    [
      'half of a message',
      (stream, query) => (stream.respond(headers), stream.write(answerTo(query).subarray(0, 20)), stream.end()),
      /cannot be read/,
    ],
    [
      'half, then a reset',
      (stream, query) => (
        stream.respond(headers),
        stream.write(answerTo(query).subarray(0, 20)),
        setTimeout(() => stream.close(2), 20)
      ),
      /Stream closed|broke off|cannot be read/,
    ],
    [
      'fewer octets than it says',
      (stream, query) => (stream.respond({ ...headers, 'content-length': 500 }), stream.end(answerTo(query))),
      /./,
    ],
    ['more than 64 KiB', (stream) => (stream.respond(headers), stream.end(Buffer.alloc(70_000))), /65535 octets/],
    [
      'another question',
      (stream) => (
        stream.respond(headers),
        stream.end(answerTo({ id: 0, questions: [{ type: 'TXT', name: 'evil.com' }] }))
      ),
      /another question/,
    ],
  ])('%s is no answer', async (_what, fault, reason) => {
    handle = fault;
    const answer = await client.txt('mail.acme.com');
    expect(answer).toMatchObject({ kind: 'unreachable' });
    expect((answer as { reason: string }).reason).toMatch(reason);
    handle = good;
    expect(await client.txt('mail.acme.com')).toMatchObject(here);
  });

  it('opens a new connection when the server has closed the old one, with or without GOAWAY', async () => {
    await client.txt('mail.acme.com');
    for (const session of sessions) session.goaway();
    await new Promise((later) => setTimeout(later, 30));
    expect(await client.txt('mail.acme.com')).toMatchObject(here);
    for (const session of sessions) session.destroy();
    expect(await client.txt('mail.acme.com')).toMatchObject(here);
    expect(opened).toBeGreaterThanOrEqual(3);
  });

  it('asks again on a new connection when the old one dies before an answer', async () => {
    let killed = false;
    handle = (stream, query) => {
      if (killed) return good(stream, query);
      killed = true;
      stream.session?.destroy();
    };
    expect(await client.txt('mail.acme.com')).toMatchObject(here);
  });

  it('keeps no more streams open than it may, and answers all', async () => {
    most = 0;
    handle = (stream, query) => setTimeout(() => good(stream, query), 5);
    const answers = await Promise.all(Array.from({ length: 200 }, (_, i) => client.txt(`d${i}.acme.com`)));
    expect(answers.every(({ kind }) => kind === 'records')).toBe(true);
    expect(most).toBeLessThanOrEqual(20);
  });

  it('asks again within the time of the one query', async () => {
    handle = (stream) => setTimeout(() => stream.session?.destroy(), 300);
    expect(await client.txt('mail.acme.com')).toMatchObject({ kind: 'unreachable', reason: 'no answer within 400 ms' });
  });

  it('a peer that never completes the TLS handshake is no answer, however often it is asked', async () => {
    const sockets: Socket[] = [];
    const silent = createTcpServer((socket) => sockets.push(socket.on('error', () => undefined)));
    await new Promise<void>((ready) => silent.listen(0, '127.0.0.1', ready));
    const { port } = silent.address() as AddressInfo;
    const asking = new DohClient({ url: `https://127.0.0.1:${port}/dns-query`, timeoutMs: 50, sessions: 1 });
    for (let i = 0; i < 40; i++) {
      const answers = await Promise.all(['a.com', 'b.com'].map((name) => asking.mx(name)));
      for (const answer of answers) expect(answer).toMatchObject({ kind: 'unreachable' });
    }
    asking.close();
    for (const socket of sockets) socket.destroy();
    await new Promise((closed) => silent.close(closed));
  });

  it('a port without a listener is no answer', async () => {
    const nowhere = new DohClient({ url: 'http://127.0.0.1:1/dns-query', timeoutMs: 400 });
    const answer = await nowhere.mx('mail.acme.com');
    expect(answer).toMatchObject({ kind: 'unreachable' });
    expect((answer as { reason: string }).reason).toContain('ECONNREFUSED');
    nowhere.close();
  });

  it('a name that cannot be asked for is not sent', async () => {
    handle = () => {
      throw new Error('it was sent');
    };
    expect(await client.txt('a..b')).toMatchObject({ kind: 'unreachable', reason: 'a..b cannot be asked for' });
  });

  it('ends queries under way when it is closed', async () => {
    handle = () => undefined;
    const asked = client.txt('mail.acme.com');
    await new Promise((later) => setTimeout(later, 50));
    client.close();
    expect(await asked).toMatchObject({ kind: 'unreachable' });
  });

  it('also ends queries under way on a connection that takes no more', async () => {
    handle = () => undefined;
    const asked = client.txt('mail.acme.com');
    await new Promise((later) => setTimeout(later, 50));
    for (const session of sessions) session.goaway();
    await new Promise((later) => setTimeout(later, 50));
    client.close();
    expect((await asked) as { reason: string }).toMatchObject({
      kind: 'unreachable',
      reason: expect.not.stringContaining('no answer within') as string,
    });
  });
});

(bindIsInstalled() ? describe : describe.skip)('a real BIND (skipped where named is not installed)', () => {
  let bind: Bind;
  let client: DohClient;
  beforeAll(async () => {
    bind = await startBind(['acme.com']);
    client = new DohClient({ url: bind.dohUrl, timeoutMs: 500 });
  });
  afterAll(() => {
    client.close();
    bind.stop();
  });

  it('tells records, aliases, NODATA and NXDOMAIN apart, and sees a change at once', async () => {
    expect(await client.mx('mail.acme.com')).toMatchObject({ kind: 'nxdomain', aliases: [] });
    bind.update(
      'add mail.acme.com 60 MX 10 MAIL.Sendmux.ai.',
      'add mail.acme.com 60 TXT "a" "b"',
      'add www.acme.com 60 CNAME mail.acme.com.',
    );
    expect(await client.mx('mail.acme.com')).toMatchObject({
      kind: 'records',
      records: [{ preference: 10, exchange: 'mail.sendmux.ai' }],
      aliases: [],
    });
    expect(await client.txt('mail.acme.com')).toMatchObject({ records: ['ab'] });
    expect(await client.mx('www.acme.com')).toMatchObject({
      aliases: ['mail.acme.com'],
      records: [{ preference: 10 }],
    });
    expect(await client.mx('acme.com')).toMatchObject({ kind: 'nodata', aliases: [] });
    expect(await client.mx('elsewhere.net')).toMatchObject({ kind: 'unreachable', reason: 'RCODE REFUSED' });
  });

  it('a resolver that is suspended is no answer, and is one again when it continues', async () => {
    bind.pause();
    expect(await client.mx('mail.acme.com')).toMatchObject({ kind: 'unreachable' });
    bind.resume();
    expect(await client.mx('mail.acme.com')).toMatchObject({ kind: 'records' });
  });
});
