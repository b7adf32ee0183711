import { MailServer } from '@app/mail-server';
import { DomainsReadModel } from '@app/read-model';
import { SesWriter } from '@app/ses-writer';
import { WebhookDeliveries } from '@app/webhooks';
import fc from 'fast-check';
import { Claims } from '../apps/gateway/claims/claims.service';
import { Notifier } from '../apps/notifier/notifier';
import { OwnerMailer } from '../apps/notifier/owner-mailer';
import { Product } from './support/product';
import { domainsPerTeam, ProductModel } from './support/product-model';
import { Run } from './support/product-run';
import { allSteps, clear, life } from './support/product-steps';
import { sample } from './support/sample';

const wanted = sample(500, 10_000);
/** Milliseconds after which a usual run is content with the steps that there were, on a slow machine. */
const mostMs = sample(60_000, Infinity);
/** A usual run takes the same steps each time; a whole one takes others. */
const seed = Number(process.env.SEED ?? (process.env.WHOLE ? Date.now() % 100_000 : 17));
/** What fast-check prints of a failure: where it is, and which of its steps were run. */
const { FC_PATH: path, FC_REPLAY: replayPath } = process.env;
/** Steps of a run at most. */
const longest = 60;
/** Milliseconds for which a failure is made shorter. */
const shrinkingMs = Number(process.env.FC_SHRINKING_MS ?? 90_000);
/** Milliseconds for all steps, on a slow machine. */
const patienceMs = sample(480_000, 7_200_000);
/** Runs between two looks at how many steps there were. */
const runsAtOnce = 5;

/** Runs some steps, and deletes everything at the end. */
async function lived(product: Product): Promise<ProductModel> {
  const run = await Run.begin(product);
  const model = new ProductModel(product.clock.now());
  try {
    for (const step of life)
      await step.run(model, run).catch((error: Error) => {
        throw new Error(`at "${step.toString()}": ${error.message}`, { cause: error });
      });
    await clear(model, run);
  } finally {
    await run.end();
  }
  return model;
}

describe('the whole product does what the guide and the documents say', () => {
  let product: Product;
  beforeAll(async () => {
    product = await Product.start({ MAX_DOMAINS_PER_TEAM: String(domainsPerTeam) });
  });
  afterAll(() => product?.stop());

  it('in one life of everything', async () => {
    const model = await lived(product);
    expect(new Set(model.mails.map(({ about }) => about))).toEqual(
      new Set(['failed', 'recovered', 'ownership_gone', 'released', 'new_records', 'expires']),
    );
  });

  it(
    `in ${wanted} steps of customers, of the DNS, of Amazon SES and of the time`,
    async () => {
      let steps = 0;
      const counts = new Map<string, number>();
      let failedAt: number | undefined;
      const begunAt = performance.now();
      const isEnough = () => steps >= wanted || performance.now() - begunAt > mostMs;
      const property = fc.asyncProperty(
        fc.commands([...allSteps], { maxCommands: longest, size: 'max', ...(replayPath && { replayPath }) }),
        async (commands) => {
          const isOver = failedAt === undefined ? isEnough() : performance.now() - failedAt > shrinkingMs;
          if (isOver) return;
          const run = await Run.begin(product);
          const model = new ProductModel(product.clock.now());
          try {
            await fc.asyncModelRun(() => ({ model, real: run }), commands);
            await clear(model, run);
          } catch (error) {
            failedAt ??= performance.now();
            throw error;
          } finally {
            if (failedAt === undefined) steps += run.steps;
            await run.end();
          }
          for (const { events } of [...model.domains, ...model.mailboxes])
            for (const type of events) counts.set(type, (counts.get(type) ?? 0) + 1);
          for (const { about } of model.mails) counts.set(`told: ${about}`, (counts.get(`told: ${about}`) ?? 0) + 1);
        },
      );
      console.log(`the model of the product: seed ${seed}`);
      for (let part = 0; !isEnough(); part++)
        await fc.assert(property, {
          seed: seed + part,
          numRuns: path ? 1 : runsAtOnce,
          ...(path && { path }),
          endOnFailure: false,
        });
      expect(steps).toBeGreaterThan(0);
      console.log(`${steps} steps: ${JSON.stringify(Object.fromEntries([...counts].sort()))}`);
    },
    patienceMs,
  );
});

/** Faults that are planted into the running product, and the step at which the model finds each. */
const planted: readonly [string, () => unknown, string][] = [
  [
    'the mail server keeps what was rolled back',
    () => jest.spyOn(MailServer.prototype, 'remove').mockResolvedValue(undefined),
    'SES refuses an add',
  ],
  [
    'a name that is held is taken for free',
    () => jest.spyOn(DomainsReadModel.prototype, 'holderOf').mockResolvedValue(undefined),
    'a claim',
  ],
  [
    'a message to webhooks is lost',
    () => jest.spyOn(WebhookDeliveries.prototype, 'enqueue').mockResolvedValueOnce(undefined),
    'a domain',
  ],
  [
    'only one owner is told',
    () => {
      const owners = Reflect.get(OwnerMailer.prototype, 'owners');
      jest.spyOn(OwnerMailer.prototype, 'owners').mockImplementation(async function (this: OwnerMailer, team) {
        return (await owners.call(this, team)).slice(0, 1);
      });
    },
    'it fails',
  ],
  [
    'nobody is told of a recovery',
    () => jest.spyOn(Notifier.prototype, 'tellOfRecovery').mockResolvedValue('done'),
    'it recovers',
  ],
  [
    'a claim does not look at who holds the name',
    () => {
      const decide = Reflect.get(Claims.prototype, 'take') as (...given: unknown[]) => Promise<void>;
      jest.spyOn(Claims.prototype as unknown as { take: typeof decide }, 'take').mockImplementation(function (
        this: Claims,
        claim,
        holder,
        _ownership,
        request,
      ) {
        return decide.call(
          Object.assign(Object.create(this) as Claims, { graceMs: 0 }),
          claim,
          holder,
          'absent',
          request,
        );
      });
    },
    'the claim is refused still',
  ],
  [
    'SES keeps what is gone',
    () => jest.spyOn(SesWriter.prototype, 'delete').mockResolvedValue(undefined),
    'the claim wins',
  ],
];

describe('the model finds it where', () => {
  let product: Product;
  beforeEach(async () => {
    product = await Product.start({ MAX_DOMAINS_PER_TEAM: String(domainsPerTeam) });
  });
  afterEach(async () => {
    jest.restoreAllMocks();
    await product?.stop();
  });

  const first = seed % planted.length;
  it.each(planted.slice(sample(first, 0), sample(first + 1, planted.length)))('%s', async (_, plant, atStep) => {
    plant();
    await expect(lived(product)).rejects.toThrow(`at "${atStep}"`);
  });
});
