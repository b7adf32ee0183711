/** Fills a log with realistic streams, which the domain model has decided, by COPY. */
import { randomInt } from 'node:crypto';
import { once } from 'node:events';
import { Client } from 'pg';
import { from as copyFrom } from 'pg-copy-streams';
import type { CommandContext } from '@app/decider';
import {
  AddDomain,
  CompleteDeletion,
  CompleteProvisioning,
  decide,
  evolve,
  initialState,
  RecordCheck,
  RequestDeletion,
  schemaVersions,
  type DomainCommand,
  type DomainEvent,
  type MailDomain,
} from '@app/mail-domain';
import { type DkimAnswer, judge } from '@app/mail-records';
import { eventHash, hashedColumns, microsecondsOf, noHash, type HashedEvent } from '@app/event-store';
import { answersOf, type Said } from '../test/support/answers';
import { numbers } from '../test/support/numbers';

const began = Date.parse('2026-01-01T00:00:00.000Z');
const cycleMs = 6 * 3_600_000;

/** Stands for the id and the name of each domain, and has the same length. */
const placeholder = { id: 'mdom_cl#########################', name: '#########.example.com' };

/**
 * Makes the events of one domain, about ten: added, provisioned, looked at until it is verified, broken and repaired;
 * some are deleted.
 *
 * @param isShort for four events: it is verified by its first look, and stays so.
 */
function life(random: () => number, givenTeam?: string, isShort = false): DomainEvent[] {
  const { id, name } = placeholder;
  const ownTeam = `team_${Math.floor(random() * 1e9)
    .toString(36)
    .padStart(10, '0')}`;
  const team = givenTeam ?? ownTeam;
  const dkimTokens = Array.from({ length: 3 }, () => random().toString(36).slice(2).padEnd(32, 'x').slice(0, 32));
  const domain = { name, team, dkimTokens, dkimZone: 'dkim.amazonses.com', sesRegion: 'eu-west-1' };
  const identity = { dkimTokens, dkimZone: domain.dkimZone, sesRegion: 'eu-west-1', sesDkimStatus: 'pending' } as const;
  const txt = (...records: string[]) => {
    const answer = { kind: 'records', records, aliases: [] } as const;
    return [answer, answer];
  };
  const absent = [
    { kind: 'nxdomain', aliases: [] },
    { kind: 'nxdomain', aliases: [] },
  ] as const;
  const mx = (exchange: string) => {
    const answer = { kind: 'records', records: [{ preference: 10, exchange }], aliases: [] } as const;
    return [answer, answer];
  };
  const faults: Said[] = [
    { mx: mx('mx.elsewhere.example') },
    { spf: txt('v=spf1 include:_spf.elsewhere.example -all') },
    { dmarc: absent, verification: txt('google-site-verification=abcdefghijklmnop') },
    { mx: absent, spf: absent, dmarc: absent, verification: absent },
  ];
  const fault = () => faults[Math.floor(random() * faults.length)]!;

  const events: DomainEvent[] = [];
  let state: MailDomain = initialState;
  let time = began;
  const does = (command: (context: CommandContext) => DomainCommand) => {
    time += 1 + Math.floor(random() * cycleMs);
    const at = new Date(time).toISOString();
    const made = decide(command({ at, actor: 'bench', correlationId: 'bench' }), state);
    state = made.reduce(evolve, state);
    events.push(...made);
  };
  const looks = (trigger: 'requested' | 'scheduled', changed: Said, dkim: DkimAnswer) =>
    does((context) => {
      const cycle = trigger === 'scheduled' ? time : null;
      return new RecordCheck(id, { ...judge(domain, answersOf(domain, changed), dkim), trigger, cycle }, context);
    });
  does((context) => new AddDomain(id, { name, team, deadline: '2026-01-01T00:00:30.000Z' }, context));
  does((context) => new CompleteProvisioning(id, identity, context));
  if (isShort) {
    looks('requested', {}, 'success');
    return events;
  }
  looks('requested', faults[3]!, 'pending');
  if (random() < 0.7) looks('requested', fault(), 'success');
  looks('requested', {}, 'success');
  for (let breaks = Math.floor(random() * 3); breaks > 0; breaks--) {
    looks('scheduled', fault(), 'success');
    if (random() < 0.4) looks('scheduled', faults[3]!, 'success');
    looks('requested', {}, 'success');
  }
  if (random() < 0.15) {
    does((context) => new RequestDeletion(id, context));
    does((context) => new CompleteDeletion(id, context));
  }
  return events;
}

export const idOf = (n: number): string => `mdom_cl${n.toString(36).padStart(9, '0')}${'0'.repeat(7)}benchbenc`;
const nameOf = (n: number): string => `d${n.toString(36).padStart(8, '0')}.example.com`;

/**
 * Fills an empty log with about that many events. The streams are interleaved, so the events of each are spread over
 * the whole log.
 *
 * @param teams whose the domains are, in turn; absent for a team of its own for each life that is made up.
 * @param areShort for lives of four events, of domains that are all verified.
 * @returns the number of events and of streams.
 */
export async function fillLog(
  url: string,
  about: number,
  seed = 7,
  teams: readonly string[] = [],
  areShort = false,
): Promise<{ events: number; streams: number }> {
  const random = numbers(seed);
  const templates = Array.from({ length: 100 }, (_, i) => life(random, teams[i % teams.length], areShort)).map(
    (events) => events.map(rowOf),
  );
  const perRound = templates.reduce((sum, { length }) => sum + length, 0);
  const streams = Math.ceil((about * templates.length) / perRound);
  const client = new Client({ connectionString: url });
  await client.connect();
  try {
    const columns = [...hashedColumns, 'hash'].join(', ');
    const stream = client.query(copyFrom(`COPY events (${columns}) FROM STDIN`));
    const failed = once(stream, 'error').then(([error]) => Promise.reject(error as Error));
    failed.catch(() => undefined);
    const newest = new Array<Buffer>(streams).fill(noHash);
    let events = 0;
    let text = '';
    for (let round = 0; round < Math.max(...templates.map(({ length }) => length)); round++)
      for (let i = 0; i < streams; i++) {
        // The order differs in each round: the factor is a prime, and coprime to any number of streams that is not a
        // multiple of it.
        const n = (i * 104_729 + round) % streams;
        const template = templates[n % templates.length]![round];
        if (!template) continue;
        const [event, time] = eventOf(template, n);
        const row = { ...event, position: ++events, previous: newest[n]! };
        newest[n] = eventHash(row);
        text += `${lineOf(row, time, newest[n])}\n`;
        if (text.length < 1_048_576) continue;
        if (!stream.write(text)) await Promise.race([once(stream, 'drain'), failed]);
        text = '';
      }
    stream.end(text);
    await Promise.race([once(stream, 'finish'), failed]);
    await client.query(`SELECT setval('event_positions', ${events})`);
    await client.query('VACUUM (ANALYZE) events');
    return { events, streams };
  } finally {
    await client.end();
  }
}

interface Template extends Pick<HashedEvent, 'type' | 'schemaVersion' | 'version' | 'data' | 'metadata'> {
  readonly at: string;
}

/** Gives the columns of an event of a template. */
const rowOf = ({ type, at, data }: DomainEvent, i: number): Template => ({
  type,
  at,
  version: i + 1,
  schemaVersion: schemaVersions[type],
  data: JSON.stringify(data),
  metadata: JSON.stringify({
    actor: 'verification-scheduler',
    correlationId: `${placeholder.id}/cycle/${began}`,
    causationId: `${placeholder.id}/${randomInt(10)}`,
  }),
});

/** Gives the event of stream `n`, and its time. */
function eventOf({ at, ...template }: Template, n: number): [Omit<HashedEvent, 'position' | 'previous'>, string] {
  const own = (text: string) => text.replaceAll(placeholder.id, idOf(n)).replaceAll(placeholder.name, nameOf(n));
  const { data, metadata } = template;
  return [
    { ...template, stream: idOf(n), microseconds: microsecondsOf(at), data: own(data), metadata: own(metadata) },
    at,
  ];
}

/** Gives the columns in the order of `hashedColumns`, followed by the hash. */
const lineOf = (event: HashedEvent, time: string, hash: Buffer): string =>
  [
    event.position,
    `\\\\x${event.previous.toString('hex')}`,
    event.stream,
    event.version,
    event.type,
    event.schemaVersion,
    time,
    event.data.replaceAll('\\', '\\\\'),
    event.metadata,
    `\\\\x${hash.toString('hex')}`,
  ].join('\t');
