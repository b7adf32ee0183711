import { AsyncResource } from 'node:async_hooks';
import { setImmediate as nextTurn, setTimeout as delay } from 'node:timers/promises';
import { Injectable, type DynamicModule, type OnApplicationShutdown, type OnModuleInit } from '@nestjs/common';
import type { NestFastifyApplication } from '@nestjs/platform-fastify';
import { ProcessModule } from './process.module';
import { runApp, runApps, type App, type AppToLoad } from './run-app';

const mockLines: { app: string; level: number; msg: string }[] = [];
let mockLogEnds = 0;
jest.mock('../runtime/log-output', () => ({
  logLines: { write: (line: string) => mockLines.push(JSON.parse(line) as (typeof mockLines)[number]) },
  isLogOpen: () => true,
  endLog: () => Promise.resolve(void mockLogEnds++),
}));

let mockTraceEnds = 0;
jest.mock('@app/tracing', () => ({
  ...jest.requireActual<object>('@app/tracing'),
  endTracing: () => Promise.resolve(void mockTraceEnds++),
}));

/** What happens, in its order. */
let happened: string[];
let exits: number[];
let kills: unknown[];
/** What listens to the process. Jest itself listens to signals of the real one. */
let listeners: Record<string, (signal: NodeJS.Signals) => void>;
let said: string;
/** What the next app with this name does when it starts or stops. */
let does: Record<string, { readonly starts?: () => Promise<void>; readonly stops?: () => Promise<void> }>;

@Injectable()
class Work implements OnModuleInit, OnApplicationShutdown {
  constructor(private readonly name: string) {}

  async onModuleInit(): Promise<void> {
    happened.push(`${this.name} starts`);
    await does[this.name]?.starts?.();
    happened.push(`${this.name} has started`);
  }

  async onApplicationShutdown(): Promise<void> {
    await does[this.name]?.stops?.();
    happened.push(`${this.name} has stopped`);
  }
}

const moduleOf = (name: string): DynamicModule => ({
  module: class Planted {},
  imports: [ProcessModule.forApp(name, 'info')],
  providers: [{ provide: Work, useValue: new Work(name) }],
});
const appOf = (name: string, describe?: App['describe']): App => ({
  name,
  describe: describe ?? (() => ({ host: '127.0.0.1', port: 0, module: moduleOf(name) })),
});
const load = (name: string, describe?: App['describe']): AppToLoad => ({
  name,
  load: () => {
    happened.push(`${name} is loaded`);
    return Promise.resolve(appOf(name, describe));
  },
});

/** Has an app wait in its start. Gives the gate that opens when it has begun, and the one at which it waits. */
function heldAtItsStart(name: string) {
  const [begun, goesOn] = [gate(), gate()] as const;
  const starts = () => {
    begun.resolve();
    return goesOn.promise;
  };
  does = { [name]: { starts } };
  return [begun, goesOn] as const;
}

/** Sends the signal, and gives the last line of the log when the process would have ended by it. */
async function stopped(signal: NodeJS.Signals = 'SIGTERM') {
  listeners[signal]!(signal);
  while (kills.length === 0) await nextTurn();
  return mockLines.at(-1)!;
}

beforeEach(() => {
  happened = [];
  exits = [];
  kills = [];
  listeners = {};
  said = '';
  does = {};
  mockLines.length = 0;
  mockLogEnds = 0;
  mockTraceEnds = 0;
  jest.spyOn(process, 'exit').mockImplementation(((code: number) => void exits.push(code)) as typeof process.exit);
  jest.spyOn(process, 'kill').mockImplementation((_, signal) => {
    kills.push(signal);
    return true;
  });
  jest.spyOn(process, 'removeAllListeners').mockReturnValue(process);
  jest.spyOn(process, 'on').mockImplementation(((event: string, listener: (typeof listeners)[string]) => {
    // A signal is handled in the context of whoever listens to it.
    listeners[event] = AsyncResource.bind(listener);
    return process;
  }) as typeof process.on);
  jest.spyOn(process.stderr, 'write').mockImplementation((text) => (said += String(text)) !== '');
});
afterEach(() => jest.restoreAllMocks());

/** Gives a promise, and what resolves it. */
function gate(): { readonly promise: Promise<void>; readonly resolve: () => void } {
  let resolve = () => {};
  const promise = new Promise<void>((done) => (resolve = done));
  return { promise, resolve };
}

describe('several apps of a process', () => {
  it('start a group after the other, and stop in the reverse order', async () => {
    await runApps('both', [[load('sandbox')], [load('one'), load('two')]]);
    const begun = ['sandbox', 'one', 'two'].map((name) => happened.indexOf(`${name} has started`));
    expect(begun).not.toContain(-1);
    expect(happened.indexOf('one is loaded')).toBeGreaterThan(begun[0]!);
    happened = [];
    expect(await stopped()).toMatchObject({ app: 'both', level: 30, msg: 'both has stopped after SIGTERM' });
    expect(happened.slice(0, 2).sort()).toEqual(['one has stopped', 'two has stopped']);
    expect(happened.slice(2)).toEqual(['sandbox has stopped']);
    expect([exits, mockLogEnds]).toEqual([[143], 1]);
  });

  it('stop whatever one of them does, and say which could not', async () => {
    does = { two: { stops: () => delay(20) } };
    const cannotStop = (app: NestFastifyApplication) =>
      void app
        .getHttpAdapter()
        .getInstance()
        .addHook('onClose', () => Promise.reject(new Error('it is held')));
    const held = () => ({ host: '127.0.0.1', port: 0, module: moduleOf('one'), configure: cannotStop });
    await runApps('both', [[load('sandbox')], [load('one', held), load('two')]]);
    const { level, msg } = await stopped();
    expect(happened.slice(-2)).toEqual(['two has stopped', 'sandbox has stopped']);
    expect(level).toBe(60);
    expect(msg).toMatch(
      /^both ends with status 1, since it could not stop in order after SIGTERM: Error: one: Error: it is held/,
    );
    expect([exits[0], mockTraceEnds]).toEqual([1, 3]);
  });

  it('stop in order while they start, and begin no other one', async () => {
    const [begun, goesOn] = heldAtItsStart('one');
    const running = runApps('both', [[load('sandbox'), load('one')], [load('two')]]);
    await begun.promise;
    const end = stopped();
    await nextTurn();
    goesOn.resolve();
    await running;
    expect(await end).toMatchObject({ level: 30, msg: 'both has stopped after SIGTERM' });
    expect(happened).toEqual(expect.arrayContaining(['sandbox has stopped', 'one has stopped']));
    expect(happened.indexOf('one has stopped')).toBeGreaterThan(happened.indexOf('one has started'));
    expect(happened).not.toContain('two is loaded');
    expect([exits, said]).toEqual([[143], '']);
  });

  it('stop one that is being created, too', async () => {
    const [begun, goesOn] = [gate(), gate()];
    const late = load('late');
    const running = runApps('both', [
      [
        {
          ...late,
          load: async () => {
            begun.resolve();
            await goesOn.promise;
            return late.load();
          },
        },
        load('two'),
      ],
    ]);
    await begun.promise;
    const end = stopped();
    goesOn.resolve();
    await running;
    expect(await end).toMatchObject({ level: 30, msg: 'both has stopped after SIGTERM' });
    expect(happened.at(-1)).toBe('late has stopped');
    expect(happened).not.toContain('two is loaded');
  });

  it('end where one cannot start', async () => {
    const cannot = () => {
      throw new Error('it has no key');
    };
    await runApps('both', [[load('one'), load('two', cannot)]]);
    expect(exits[0]).toBe(1);
    expect(said).toMatch(/^both: two cannot start\.\nError: it has no key\n {4}at /);
    await stopped();
  });
});

describe('one app', () => {
  it('is opened before it stops by a signal that comes meanwhile', async () => {
    const [begun, goesOn] = heldAtItsStart('one');
    const running = runApp(appOf('one'));
    await begun.promise;
    const end = stopped('SIGINT');
    await nextTurn();
    goesOn.resolve();
    await running;
    expect(await end).toMatchObject({ level: 30, msg: 'one has stopped after SIGINT' });
    expect(happened).toEqual(['one starts', 'one has started', 'one has stopped']);
    expect([exits, said]).toEqual([[130], '']);
  });

  it('says why it cannot start, with hidden characters as escapes', async () => {
    const text = 'a\x1b]0;pwned\x07\u202e\u009b2J\r\u2028b';
    await runApp(
      appOf('one', () => {
        throw new Error(text);
      }),
    );
    expect(exits).toEqual([1]);
    expect(said.split('\n').slice(0, 2)).toEqual([
      'one cannot start.',
      'Error: a\\u{1b}]0;pwned\\u{7}\\u{202e}\\u{9b}2J\\u{d}\\u{2028}b',
    ]);
    expect(said).toMatch(/\n {4}at /);
  });
});
