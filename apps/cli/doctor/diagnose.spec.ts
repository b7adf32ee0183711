import { check, failed, ok, type Check } from './check';
import { diagnose, reasonOf } from './diagnose';

const env = {
  SENDMUX_DATA_DIR: '/nonexistent',
  DATABASE_URL: 'postgres://sendmux:hunter%402@127.0.0.1/a',
  KAFKA_PASSWORD: 'correct horse',
  WEBHOOK_SECRET_KEYS: `a=${Buffer.alloc(32, 1).toString('base64')}`,
  AWS_SECRET_ACCESS_KEY: 'wJalrXUtnFEMI',
  PORT: 'x',
};
const made = (more: Partial<Check>): Check =>
  check({
    name: 'part',
    needs: [],
    withinMs: 50,
    remedy: 'Do this.',
    run: () => Promise.resolve([ok('Well.')]),
    ...more,
  });
const linesOf = async (...checks: Check[]) => (await Promise.all(diagnose(checks, env))).flat();

describe('a diagnosis', () => {
  it('has a line for a check that throws or never ends, and all lines of the others', async () => {
    const lines = await linesOf(
      made({ run: () => Promise.reject(new Error('Strange.')) }),
      made({
        name: 'second',
        run: () => {
          throw new TypeError('Stranger');
        },
      }),
      made({ name: 'third', run: () => new Promise(() => undefined) }),
      made({ name: 'fourth', run: () => Promise.resolve([ok('One.'), failed('Two.', 'it')]) }),
    );
    expect(lines).toEqual([
      { check: 'part', level: 'failed', message: 'Strange. Do this.' },
      { check: 'second', level: 'failed', message: 'Stranger. Do this.' },
      { check: 'third', level: 'failed', message: 'It took longer than 0.05 s. Do this.' },
      { check: 'fourth', level: 'ok', message: 'One.' },
      { check: 'fourth', level: 'failed', message: 'Two.', of: 'it' },
    ]);
  });

  it('skips a check whose settings are at fault, and gives the others theirs', async () => {
    const seen = jest.fn();
    const lines = await linesOf(
      made({ needs: ['PORT'] }),
      made({
        name: 'second',
        needs: ['HOST'],
        run: ({ settings }) => {
          seen(settings);
          return Promise.resolve([ok('Well.')]);
        },
      }),
    );
    expect(lines.map(({ level }) => level)).toEqual(['skipped', 'ok']);
    expect(seen).toHaveBeenCalledWith({ HOST: '127.0.0.1' });
  });

  it('tells a check when its time is over', async () => {
    let signal: AbortSignal;
    await linesOf(
      made({
        run: (context) => {
          ({ signal } = context);
          return new Promise(() => undefined);
        },
      }),
    );
    expect(signal!.aborted).toBe(true);
  });

  it('shows no secret, whatever a counterpart says', async () => {
    const said = [
      `refused postgres://sendmux:hunter%402@127.0.0.1/a`,
      'the password hunter@2 is wrong',
      'SASL: correct horse',
      env.WEBHOOK_SECRET_KEYS,
      'signed with wJalrXUtnFEMI',
      'proxy http://somebody:else@proxy.example/',
    ];
    const lines = await linesOf(made({ run: () => Promise.resolve(said.map((text) => failed(text))) }));
    expect(lines.map(({ message }) => message)).toEqual([
      'refused postgres://***@127.0.0.1/a',
      'the password *** is wrong',
      'SASL: ***',
      '***',
      'signed with ***',
      'proxy http://***@proxy.example/',
    ]);
  });

  it('leaves its own words as they are where one of them is a password', async () => {
    const said = made({ run: () => Promise.resolve([failed('Run `sendmux migrate` for postgres://a:sendmux@b/.')]) });
    const [lines] = await Promise.all(diagnose([said], { ...env, DATABASE_URL: 'postgres://a:sendmux@b/c' }));
    expect(lines!.map(({ message }) => message)).toEqual(['Run `sendmux migrate` for postgres://***@b/.']);
  });

  it('gives the reason of an error in one line', () => {
    expect(reasonOf(new Error('No answer.\n  Try again.', { cause: new Error('reset') }))).toBe(
      'No answer. Try again. (reset)',
    );
    expect(reasonOf(new AggregateError([new Error('connect ECONNREFUSED')], ''))).toBe(
      'AggregateError (connect ECONNREFUSED)',
    );
    expect(reasonOf(new Error('x'.repeat(1_000)))).toHaveLength(500);
  });
});
