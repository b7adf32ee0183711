import fc from 'fast-check';
import { Product } from './support/product';
import { domainsPerTeam, ProductModel } from './support/product-model';
import { Run } from './support/product-run';
import { allSteps, clear } from './support/product-steps';
import { sample } from './support/sample';

const wanted = sample(500, 10_000);
/** Milliseconds after which a usual run is content with the steps that there were, on a slow machine. */
const mostMs = sample(90_000, Infinity);
const seed = Number(process.env.SEED ?? Date.now() % 100_000);
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

describe('the whole product does what the guide and the documents say', () => {
  let product: Product;
  beforeAll(async () => {
    product = await Product.start({ MAX_DOMAINS_PER_TEAM: String(domainsPerTeam) });
  });
  afterAll(() => product?.stop());

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
