import { createServer, type Http2Server, type ServerHttp2Session, type ServerHttp2Stream } from 'node:http2';
import type { AddressInfo } from 'node:net';
import * as packet from 'dns-packet';
import { DohClient } from '@app/dns';
import {
  AddDomain,
  CompleteProvisioning,
  decide,
  evolve,
  initialState,
  RecordCheck,
  type DomainCommand,
  type MailDomain,
} from '@app/mail-domain';
import type { Assessment } from '@app/mail-records';
import { Verifier } from './verifier';

const domain = {
  name: 'mail.acme.com',
  team: 'team_abc123',
  dkimTokens: ['a', 'b', 'c'],
  dkimZone: 'dkim.amazonses.com',
  sesRegion: 'eu-west-1',
};
const published: Record<string, unknown> = {
  'MX mail.acme.com': { preference: 10, exchange: 'mail.sendmux.ai' },
  'TXT mail.acme.com': 'v=spf1 include:amazonses.com include:sendmux.ai ~all',
  'TXT _dmarc.mail.acme.com': 'v=DMARC1; p=quarantine',
  'TXT _sendmux.mail.acme.com': 'sendmux-verify=team_abc123',
};
const headers = { ':status': 200, 'content-type': 'application/dns-message' };

type Play = (stream: ServerHttp2Stream, query: packet.DecodedPacket) => void;
const reply = ({ questions }: packet.DecodedPacket, changes: Partial<packet.Packet> = {}, rcode = 0): Buffer => {
  const { type, name } = questions![0]!;
  const data = published[`${type} ${name}`];
  const answers = (rcode === 0 && data ? [{ type, name, ttl: 60, data }] : []) as packet.Answer[];
  return packet.encode({ type: 'response', id: 0, flags: rcode & 15, questions, answers, ...changes });
};
/** Sets an RCODE above 15, which has its upper bits in the OPT record (RFC 6891 section 6.1.3). */
const extended = (rcode: number): Partial<packet.Packet> => ({
  additionals: [
    {
      type: 'OPT',
      name: '.',
      udpPayloadSize: 1_232,
      extendedRcode: rcode >> 4,
      ednsVersion: 0,
      flags: 0,
      flag_do: false,
      options: [],
    },
  ],
});
const send =
  (body: (query: packet.DecodedPacket) => Buffer, more: Record<string, string | number> = {}): Play =>
  (stream, query) => {
    stream.respond({ ...headers, ...more });
    stream.end(body(query));
  };
const ofRcode = (rcode: number): Play =>
  send((query) => reply(query, { answers: [], ...(rcode > 15 && extended(rcode)) }, rcode));

const good = send((query) => reply(query));
/** The DNS RCODEs that IANA has assigned, and two that are not assigned. */
const rcodes: Record<string, number> = {
  FORMERR: 1,
  NOTIMP: 4,
  REFUSED: 5,
  YXDOMAIN: 6,
  YXRRSET: 7,
  NXRRSET: 8,
  NOTAUTH: 9,
  NOTZONE: 10,
  DSOTYPENI: 11,
  unassigned12: 12,
  unassigned15: 15,
  BADVERS: 16,
  BADKEY: 17,
  BADTIME: 18,
  BADMODE: 19,
  BADNAME: 20,
  BADALG: 21,
  BADTRUNC: 22,
  BADCOOKIE: 23,
};
/** Replies that do not count as answers. */
const faults: Record<string, Play> = {
  ...Object.fromEntries(Object.entries(rcodes).map(([name, rcode]) => [name, ofRcode(rcode)])),
  'no answer': () => undefined,
  'headers and no body': (stream) => stream.respond(headers),
  'an empty body': send(() => Buffer.alloc(0)),
  'a body cut short': send((query) => reply(query).subarray(0, 20)),
  'a body cut short, after a length': send((query) => reply(query).subarray(0, 20), { 'content-length': 200 }),
  'octets after the message': send((query) => Buffer.concat([reply(query), Buffer.from('more')])),
  'more than 64 KiB': send(() => Buffer.alloc(70_000)),
  garbage: send(() => Buffer.from('not a message, but long enough to look like one')),
  'a page with status 200': (stream) => {
    stream.respond({ ':status': 200, 'content-type': 'text/html' });
    stream.end('<html>sign in to the network</html>');
  },
  'JSON instead of wire format': (stream) => {
    stream.respond({ ':status': 200, 'content-type': 'application/dns-json' });
    stream.end('{"Status":3}');
  },
  ...Object.fromEntries(
    [204, 301, 302, 400, 403, 404, 415, 429, 500, 502, 503, 504].map((status): [string, Play] => [
      `status ${status}`,
      (stream) => stream.respond({ ':status': status, location: '/elsewhere' }, { endStream: true }),
    ]),
  ),
  'a negative answer with status 500': (stream, query) => {
    stream.respond({ ...headers, ':status': 500 });
    stream.end(reply(query, { answers: [] }, 3));
  },
  'the stream reset': (stream) => stream.close(2),
  'the connection gone': (stream) => stream.session!.destroy(),
  GOAWAY: (stream) => stream.session!.goaway(0, 0),
  'another question': send((query) =>
    reply(query, { questions: [{ type: 'TXT', name: 'evil.example', class: 'IN' }], answers: [] }, 3),
  ),
  'another type': send((query) =>
    reply(query, { questions: [{ ...query.questions![0]!, type: 'A' }], answers: [] }, 3),
  ),
  'no question': send((query) => reply(query, { questions: [], answers: [] }, 3)),
  'another id': send((query) => reply(query, { id: 7, answers: [] }, 3)),
  'a query': send((query) => reply(query, { type: 'query', answers: [] }, 3)),
  'truncated (TC)': send((query) => reply(query, { answers: [], flags: packet.TRUNCATED_RESPONSE | 3 })),
};
const nxdomain = ofRcode(3);
const nodata = send((query) => reply(query, { answers: [] }));
const servfail = ofRcode(2);

describe('what resolvers say, and what becomes of a verified domain', () => {
  let server: Http2Server;
  let clients: DohClient[];
  let plays: readonly [Play, Play];
  const sessions = new Set<ServerHttp2Session>();

  beforeAll(async () => {
    server = createServer();
    server.on('session', (session) => {
      sessions.add(session);
      session.on('close', () => sessions.delete(session));
      session.on('error', () => undefined);
    });
    server.on('stream', (stream, request) => {
      stream.on('error', () => undefined);
      const url = new URL(request[':path']!, 'http://x');
      const query = packet.decode(Buffer.from(url.searchParams.get('dns')!, 'base64url'));
      plays[url.pathname === '/0' ? 0 : 1](stream, query);
    });
    await new Promise<void>((ready) => server.listen(0, '127.0.0.1', ready));
    const { port } = server.address() as AddressInfo;
    clients = [0, 1].map((n) => new DohClient({ url: `http://127.0.0.1:${port}/${n}`, timeoutMs: 250 }));
  });
  afterAll(async () => {
    for (const client of clients) client.close();
    for (const session of sessions) session.destroy();
    await new Promise((closed) => server.close(closed));
  });

  const check = async (one: Play, other: Play): Promise<Assessment> => {
    plays = [one, other];
    return new Verifier(clients, { get: () => Promise.reject(new Error('not asked')) }).check(domain, 'success');
  };
  const context = { at: '2026-04-15T10:00:00.000Z', actor: 'test', correlationId: 'test' };
  const after = (state: MailDomain, command: DomainCommand) => decide(command, state).reduce(evolve, state);
  const scheduled = (look: Assessment, cycle: number) =>
    new RecordCheck('mdom_1', { ...look, trigger: 'scheduled', cycle }, context);

  let verified: MailDomain;
  beforeAll(async () => {
    verified = [
      new AddDomain('mdom_1', { name: domain.name, team: domain.team, deadline: context.at }, context),
      new CompleteProvisioning(
        'mdom_1',
        { dkimTokens: ['a', 'b', 'c'], dkimZone: 'x', sesRegion: 'x', sesDkimStatus: 'success' },
        context,
      ),
      scheduled(await check(good, good), 1),
    ].reduce(after, initialState);
    expect(verified.status).toBe('verified');
  });
  /** Gives the status after two looks with the same answers, since it takes two cycles in a row to fail. */
  const becomes = async (one: Play, other: Play) => {
    const look = await check(one, other);
    return [2, 3].map((cycle) => scheduled(look, cycle)).reduce(after, verified).status;
  };

  it.each(Object.entries(faults))('%s by both, or by one of them, moves nothing', async (_name, fault) => {
    expect(await becomes(fault, fault)).toBe('verified');
    expect(await becomes(fault, good)).toBe('verified');
    expect(await becomes(good, fault)).toBe('verified');
  });
  it.each(Object.entries(faults))(
    '%s by one leaves it to the other, who has a definite negative',
    async (_name, fault) => expect(await becomes(fault, nxdomain)).toBe('failed'),
  );
  it.each<[string, Play, Play, MailDomain['status']]>([
    ['NXDOMAIN by both', nxdomain, nxdomain, 'failed'],
    ['no such record by both', nodata, nodata, 'failed'],
    ['NXDOMAIN by one, no such record by the other', nxdomain, nodata, 'failed'],
    ['NXDOMAIN by one only: they disagree', nxdomain, good, 'verified'],
    ['no such record by one only: they disagree', good, nodata, 'verified'],
    ['SERVFAIL by both (H12)', servfail, servfail, 'failed'],
    ['SERVFAIL by one only (H13)', servfail, good, 'verified'],
    ['SERVFAIL by one, nothing that counts by the other', servfail, faults['no answer']!, 'verified'],
    ['SERVFAIL by one, REFUSED by the other', servfail, faults.REFUSED!, 'verified'],
    ['SERVFAIL by one, no such record by the other', servfail, nodata, 'failed'],
  ])('%s', async (_name, one, other, status) => expect(await becomes(one, other)).toBe(status));
});
