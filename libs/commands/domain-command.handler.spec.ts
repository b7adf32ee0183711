import { Logger, type LoggerService } from '@nestjs/common';
import type { CommandContext } from '@app/decider';
import {
  AddDomain,
  CompleteRollback,
  FailProvisioning,
  RequestDeletion,
  type ProvisioningFailed,
} from '@app/mail-domain';
import { WrongExpectedVersion, type Append, type EventStore, type RecordedEvent } from '@app/event-store';
import { commandsTo } from '../../test/support/commands';
import type { Commands } from './commands';
import { StreamHasChanged } from './decider.handler';
import { DomainCommandHandler } from './domain-command.handler';

const lines: [Record<string, unknown>, string][] = [];
let commands: Commands;
let handler: DomainCommandHandler;
let appends: Append[];
let reads: number;

beforeEach(() => {
  lines.length = 0;
  Logger.overrideLogger({
    log: (fields: Record<string, unknown>, message: string) => lines.push([fields, message]),
  } as unknown as LoggerService);
  const events: RecordedEvent[] = [];
  appends = [];
  reads = 0;
  const store = {
    readStream: () => {
      reads++;
      return Promise.resolve([...events]);
    },
    append: (append: Append) => {
      const { stream, expectedVersion: expected } = append;
      if (expected !== events.length) return Promise.reject(new WrongExpectedVersion(stream, expected, events.length));
      appends.push(append);
      for (const event of append.events)
        events.push({
          ...event,
          metadata: append.metadata,
          stream: append.stream,
          version: events.length + 1,
          position: 0,
        });
      return Promise.resolve(events.length);
    },
  };
  handler = new DomainCommandHandler(store as unknown as EventStore);
  commands = commandsTo(handler);
});
afterEach(() => {
  Logger.overrideLogger(false);
});

const at = '2026-04-15T10:00:00.000Z';
const ours: CommandContext = { at, actor: 'provisioning', correlationId: 'req_1', causationId: 'mdom_1/1' };
const failure: ProvisioningFailed['data'] = { step: 'ses', kind: 'refused', reason: 'SES said no.' };

it('logs one line for what each command has changed, under the id of the request that led to it', async () => {
  await commands.execute(
    new AddDomain(
      'mdom_1',
      { name: 'mail.acme.com', team: 'team_a', deadline: at },
      { at, actor: 'key_1', requestId: 'req_1', correlationId: 'req_1' },
    ),
  );
  await commands.execute(new FailProvisioning('mdom_1', failure, ours));
  await commands.execute(new CompleteRollback('mdom_1', { ...ours, causationId: 'mdom_1/2' }));
  expect(lines).toEqual([
    [expect.objectContaining({ domain: 'mdom_1', request_id: 'req_1', correlation_id: 'req_1' }), 'DomainAdded'],
    [expect.objectContaining({ correlation_id: 'req_1', reason: 'SES said no.' }), 'ProvisioningFailed'],
    [
      expect.objectContaining({ version: 3, correlation_id: 'req_1', causation_id: 'mdom_1/2' }),
      'ProvisioningRolledBack',
    ],
  ]);
});

it('logs nothing where nothing has changed', async () => {
  await commands.execute(new CompleteRollback('mdom_1', ours));
  expect(lines).toEqual([]);
});

it('never lets the times of a stream decrease, whatever the clocks of its writers say', async () => {
  const clocks = ['10:00:05.000', '10:00:04.999', '10:00:05.001'].map((clock) => `2026-04-15T${clock}Z`);
  const by = (clock: number) => ({ ...ours, at: clocks[clock]! });
  await commands.execute(new AddDomain('mdom_1', { name: 'mail.acme.com', team: 'team_a', deadline: at }, by(0)));
  const { events } = await commands.execute(new FailProvisioning('mdom_1', failure, by(1)));
  await commands.execute(new CompleteRollback('mdom_1', by(2)));
  expect(appends.map((append) => append.events.map(({ time }) => time))).toEqual([
    [clocks[0]],
    [clocks[0]],
    [clocks[2]],
  ]);
  expect(appends.map(({ row }) => row!.updated_at)).toEqual([clocks[0], clocks[0], clocks[2]]);
  expect(events.map((event) => event.at)).toEqual([clocks[0]]);
});

it('decides on a new domain without reading its stream, and on one that is there by what it is', async () => {
  const add = new AddDomain('mdom_1', { name: 'mail.acme.com', team: 'team_a', deadline: at }, ours);
  expect(await commands.execute(add)).toMatchObject({ version: 1, events: [{ type: 'DomainAdded' }] });
  expect(reads).toBe(0);
  await commands.execute(new FailProvisioning('mdom_1', failure, ours));
  expect(reads).toBe(1);
  const again = await commands.execute(add);
  expect(again).toMatchObject({ version: 2, events: [], state: { status: 'rolling_back' } });
  expect(reads).toBe(2);
  expect(appends).toHaveLength(2);
});

describe('a domain that the caller has just read', () => {
  const add = new AddDomain('mdom_1', { name: 'mail.acme.com', team: 'team_a', deadline: at }, ours);
  const fail = new FailProvisioning('mdom_1', failure, ours);
  const complete = new CompleteRollback('mdom_1', ours);

  it('is not read again where it is as it was', async () => {
    await commands.execute(add);
    const known = await handler.load('mdom_1');
    expect(await commands.execute(fail, undefined, known)).toMatchObject({
      version: 2,
      state: { status: 'rolling_back' },
    });
    expect(reads).toBe(1);
  });

  it('is read again where it has changed since', async () => {
    await commands.execute(add);
    const known = await handler.load('mdom_1');
    await commands.execute(fail);
    expect(await commands.execute(fail, undefined, known)).toMatchObject({ version: 2, events: [] });
    expect(appends).toHaveLength(2);
  });

  it('is read again before it is said that nothing changes, or that a command is refused', async () => {
    await commands.execute(add);
    const known = await handler.load('mdom_1');
    await commands.execute(fail);
    // As the caller has read it, there is nothing to roll back.
    expect(await commands.execute(complete, undefined, known)).toMatchObject({ version: 3 });
    const gone = { ...known, state: { status: 'absent' as const }, version: 0 };
    await expect(commands.execute(new RequestDeletion('mdom_1', ours), undefined, gone)).rejects.toThrow();
    expect(reads).toBe(4);
  });

  it('is read again a second later, since a fail-over may have given its version another event', async () => {
    await commands.execute(add);
    const known = await handler.load('mdom_1');
    await commands.execute(fail, undefined, { ...known, readAt: performance.now() - 1_001 });
    expect(reads).toBe(2);
  });

  it('keeps what a command demands of its version', async () => {
    await commands.execute(add);
    const known = await handler.load('mdom_1');
    await expect(commands.execute(fail, 7, known)).rejects.toThrow(StreamHasChanged);
    expect(appends).toHaveLength(1);
  });
});
