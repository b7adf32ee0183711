import assert from 'node:assert/strict';
import fc from 'fast-check';
import type { Answer } from './processes';
import {
  breakable,
  cycle,
  day,
  type Breakable,
  type Claim,
  type Domain,
  type Expected,
  type Mailbox,
  type ProductModel,
} from './product-model';
import { nameCount, ownershipOf, sorted, teamCount, type Run } from './product-run';

/** A step of a run: a request, a change of what is outside, or the time. */
class Step implements fc.AsyncCommand<ProductModel, Run> {
  constructor(
    private readonly text: string,
    private readonly act: (model: ProductModel, run: Run) => Promise<void>,
    private readonly isPossible: (model: ProductModel) => boolean = () => true,
  ) {}

  check(model: Readonly<ProductModel>): boolean {
    return this.isPossible(model as ProductModel);
  }

  async run(model: ProductModel, run: Run): Promise<void> {
    run.steps += 1;
    // Two steps are never at the same time.
    run.product.clock.moveProcess(1);
    model.now = run.product.clock.now();
    run.product.forgetLooks();
    await this.act(model, run);
    await run.agrees(model);
  }

  toString(): string {
    return this.text;
  }
}

const team = fc.nat(teamCount - 1);
const name = fc.nat(nameCount - 1);
const local = fc.constantFrom('ada', 'eve');
/** Chooses one of what there is at that moment. */
const which = fc.nat(9);
/** Whether the team asks whose it is: 0 stands for another one. */
const by = fc.nat(9);

const chosen = <T>(all: readonly T[], n: number): T => all[all.length - 1 - (n % all.length)]!;
const askerOf = (owner: number, by: number): number => (by === 0 ? (owner + 1) % teamCount : owner);
const liveOnes = (model: ProductModel) => model.domains.filter((domain) => model.isLive(domain));

/** One in ten steps is about a domain that may be gone. */
const aDomain = (model: ProductModel, n: number): Domain =>
  chosen(n === 9 || liveOnes(model).length === 0 ? model.domains : liveOnes(model), n);
/** A domain that can have mailboxes, if there is one. */
const aHome = (model: ProductModel, n: number): Domain => {
  const verified = model.domains.filter(({ status }) => status === 'verified');
  return n >= 8 || verified.length === 0 ? aDomain(model, n) : chosen(verified, n);
};

const always = (what: string, act: (model: ProductModel, run: Run) => Promise<void>) =>
  fc.constant(what).map(() => new Step(what, act));

/** A step of a team about a name. */
const onName = (what: string, act: (model: ProductModel, run: Run, team: number, name: number) => Promise<void>) =>
  fc
    .tuple(team, name)
    .map(
      ([team, name]) => new Step(`${what}(team ${team}, name ${name})`, (model, run) => act(model, run, team, name)),
    );

/** A step about a domain that is there. */
const onLive = <T>(
  what: string,
  also: fc.Arbitrary<T>,
  act: (model: ProductModel, run: Run, domain: Domain, also: T) => Promise<void>,
) =>
  fc.tuple(which, also).map(
    ([n, also]) =>
      new Step(
        `${what}(domain ${n}, ${String(also)})`,
        (model, run) => act(model, run, chosen(liveOnes(model), n), also),
        (model) => liveOnes(model).length > 0,
      ),
  );

/** A request of a team, mostly its own, about a domain. */
const onDomain = (
  what: string,
  act: (model: ProductModel, run: Run, domain: Domain, team: number) => Promise<void>,
  among = aDomain,
) =>
  fc.tuple(which, by).map(
    ([n, by]) =>
      new Step(
        `${what}(domain ${n}, by ${by})`,
        (model, run) => {
          const domain = among(model, n);
          return act(model, run, domain, askerOf(domain.team, by));
        },
        (model) => model.domains.length > 0,
      ),
  );

const onMailbox = (
  what: string,
  act: (model: ProductModel, mailbox: Mailbox, team: number) => Expected,
  ask: (run: Run, path: string, team: number) => Promise<Answer>,
) =>
  fc.tuple(which, by).map(
    ([n, by]) =>
      new Step(
        `${what}(mailbox ${n}, by ${by})`,
        async (model, run) => {
          const mailbox = chosen(model.mailboxes, n);
          const team = askerOf(mailbox.team, by);
          const answer = await ask(run, `/mailboxes/${run.mailboxIds[mailbox.key]!}`, team);
          const expected = act(model, mailbox, team);
          run.answered(expected, answer);
          if (expected.mailbox) assert.equal((answer.body as { data: Mailbox }).data.status, mailbox.status);
        },
        (model) => model.mailboxes.length > 0,
      ),
  );

const onClaim = (what: string, act: (model: ProductModel, run: Run, claim: Claim, team: number) => Promise<void>) =>
  fc.tuple(which, by).map(
    ([n, by]) =>
      new Step(
        `${what}(claim ${n}, by ${by})`,
        (model, run) => {
          const claim = chosen(model.claims, n);
          return act(model, run, claim, askerOf(claim.team, by));
        },
        (model) => model.claims.length > 0,
      ),
  );

async function add(model: ProductModel, run: Run, team: number, name: number): Promise<Domain | undefined> {
  const expected = model.add(team, name);
  const answer = await run.api(team).add(run.nameOf(name));
  run.answered(expected, answer);
  if (!expected.domain) return undefined;
  await run.agrees(model);
  await run.shows(model, expected.domain, answer);
  return expected.domain;
}

async function place(model: ProductModel, run: Run, domain: Domain): Promise<void> {
  const answer = await run.api(domain.team).get(run.domainIds[domain.key]!);
  await run.place(domain, answer, model.ownersAt(domain.name));
  model.place(domain);
}

async function verify(model: ProductModel, run: Run, domain: Domain, team: number): Promise<void> {
  run.answered(model.verify(team, domain), await run.api(team).verify(run.domainIds[domain.key]!));
}

async function verifyClaim(model: ProductModel, run: Run, claim: Claim, team: number): Promise<void> {
  const expected = model.verifyClaim(team, claim);
  const answer = await run.api(team).call('POST', `/domains/claims/${run.claimIds[claim.key]!}/verify`);
  run.answered(expected, answer);
  if (!expected.claim) return;
  await run.agrees(model);
  const { status, domain_id } = (answer.body as { data: { status: string; domain_id?: string } }).data;
  const won = claim.domain === undefined ? undefined : run.domainIds[claim.domain];
  assert.deepEqual({ status, domain_id }, { status: model.statusOf(claim), domain_id: won });
}

async function createMailbox(model: ProductModel, run: Run, team: number, local: string, name: number): Promise<void> {
  const answer = await run.api(team).call('POST', '/mailboxes', { address: `${local}@${run.nameOf(name)}` });
  run.answered(model.createMailbox(team, local, name), answer);
}

async function setRecord(model: ProductModel, run: Run, name: number, record: Breakable, isThere: boolean) {
  await run.set(name, record, isThere);
  if (isThere) model.mend(name, record);
  else model.break(name, record);
}

async function setOwnership(model: ProductModel, run: Run, name: number, team: number, isThere: boolean) {
  if (isThere) model.placeOwnership(name, team);
  else model.removeOwnership(name, team);
  await run.setOwners(name, model.ownersAt(name));
}

async function addRefusedBySes(model: ProductModel, run: Run, team: number, name: number): Promise<void> {
  const { sandbox } = run.product;
  await sandbox.fault('ses', { mode: 'refuse', operations: ['CreateEmailIdentity'], name: run.nameOf(name) });
  run.answered(model.addRefusedBySes(team, name), await run.api(team).add(run.nameOf(name)));
  await sandbox.allWell();
}

async function loseIdentity(model: ProductModel, run: Run, domain: Domain): Promise<void> {
  await run.product.sandbox.loseIdentity(run.nameOf(domain.name));
  model.loseIdentity(domain);
}

async function openClaim(model: ProductModel, run: Run, team: number, name: number): Promise<void> {
  const expected = model.openClaim(team, name);
  const answer = await run.api(team).call('POST', '/domains/claims', { domain: run.nameOf(name) });
  run.answered(expected, answer);
  if (!expected.claim) return;
  const { id, status, record } = (answer.body as { data: { id: string; status: string; record: object } }).data;
  run.claimIds.push(id);
  const value = ownershipOf(run.teams[team]!);
  const wanted = { type: 'TXT', name: `_sendmux.${run.nameOf(name)}`, value };
  assert.deepEqual({ status, record }, { status: 'pending', record: wanted });
}

async function deleteDomain(model: ProductModel, run: Run, domain: Domain, team: number): Promise<void> {
  run.answered(model.delete(team, domain), await run.api(team).delete(run.domainIds[domain.key]!));
}

async function comeOrGo(model: ProductModel, run: Run, team: number): Promise<void> {
  const there = model.webhooks.find((webhook) => webhook.team === team && webhook.isThere);
  if (there) {
    const { status } = await run.api(team).call('DELETE', `/webhooks/${run.webhookIds[there.key]!}`);
    assert.equal(status, 200);
    return model.deleteWebhook(there);
  }
  assert.equal((await run.createWebhook(team)).status, 201);
  model.createWebhook(team);
}

async function addAndVerify(model: ProductModel, run: Run, team: number, name: number): Promise<void> {
  const domain = await add(model, run, team, name);
  if (!domain) return;
  await place(model, run, domain);
  await verify(model, run, domain, team);
}

async function pass(model: ProductModel, run: Run, ms: number): Promise<void> {
  const looked = model.domains.filter(({ status }) => status === 'pending' || status === 'verified');
  await run.product.pass(ms, ms >= cycle ? looked.map(({ key }) => run.domainIds[key]!) : []);
  model.pass(ms);
}

const steps: readonly [weight: number, fc.Arbitrary<Step>][] = [
  [4, onName('add', async (model, run, team, name) => void (await add(model, run, team, name)))],
  [10, onName('add, place and verify', addAndVerify)],
  [1, onName('add, which SES refuses', addRefusedBySes)],
  [
    2,
    onDomain('get', async (model, run, domain, team) => {
      const expected = model.get(team, domain);
      const answer = await run.api(team).get(run.domainIds[domain.key]!);
      run.answered(expected, answer);
      if (expected.domain) await run.shows(model, domain, answer);
    }),
  ],
  [
    1,
    onName('list', async (model, run, team) => {
      const answer = await run.api(team).list();
      const { status } = answer;
      const { data } = answer.body as { data: { id: string; verification_status: string }[] };
      assert.deepEqual(
        [status, sorted(data.map(({ id, verification_status: of }) => [id, of]))],
        [200, sorted(model.domainsOf(team).map(({ key, status: of }) => [run.domainIds[key]!, of]))],
      );
    }),
  ],
  [6, onDomain('verify', verify)],
  [2, onDomain('delete', deleteDomain)],

  // The DNS, and Amazon SES
  [5, onLive('place all records', fc.constant('all'), place)],
  [
    5,
    onLive('break', fc.constantFrom(...breakable), (model, run, { name }, record) =>
      setRecord(model, run, name, record, false),
    ),
  ],
  [
    2,
    onLive('mend', fc.constantFrom(...breakable), (model, run, { name }, record) =>
      setRecord(model, run, name, record, true),
    ),
  ],
  [
    5,
    onLive('remove the ownership record of', fc.constant('its own'), (model, run, { name, team }) =>
      setOwnership(model, run, name, team, false),
    ),
  ],
  [1, onName('place an ownership record', (model, run, team, name) => setOwnership(model, run, name, team, true))],
  [
    2,
    onLive(
      'SES loses the identity, and then',
      fc.constantFrom('verify', 'a cycle'),
      async (model, run, domain, then) => {
        // In a scheduled look that finds it lost and failing too, the repair and the judgement have no order.
        const hasNoOrder = !model.isRight(domain) && domain.verifiedAt !== null;
        if (domain.identity === null || (then === 'a cycle' && hasNoOrder)) return;
        await loseIdentity(model, run, domain);
        if (then === 'verify') await verify(model, run, domain, domain.team);
        else await pass(model, run, cycle);
      },
    ),
  ],

  // Mailboxes
  [
    6,
    fc.tuple(which, by, local).map(
      ([n, by, local]) =>
        new Step(
          `create mailbox(${local} at domain ${n}, by ${by})`,
          async (model, run) => {
            const { name, team: owner } = aHome(model, n);
            await createMailbox(model, run, askerOf(owner, by), local, name);
          },
          (model) => model.domains.length > 0,
        ),
    ),
  ],
  [
    1,
    onMailbox(
      'suspend',
      (model, mailbox, team) => model.suspend(team, mailbox),
      (run, path, team) => run.api(team).call('POST', `${path}/suspend`),
    ),
  ],
  [
    1,
    onMailbox(
      'resume',
      (model, mailbox, team) => model.resume(team, mailbox),
      (run, path, team) => run.api(team).call('POST', `${path}/resume`),
    ),
  ],
  [
    2,
    onMailbox(
      'delete',
      (model, mailbox, team) => model.deleteMailbox(team, mailbox),
      (run, path, team) => run.api(team).call('DELETE', path),
    ),
  ],

  // Claims
  [
    6,
    onDomain('open a claim to', async (model, run, { name, team: holder }, asker) => {
      // Mostly another team than that of the domain.
      await openClaim(model, run, asker === holder ? (holder + 1) % teamCount : holder, name);
    }),
  ],
  [2, onClaim('verify', verifyClaim)],
  [
    6,
    onClaim('place the record, and verify', async (model, run, claim, team) => {
      await setOwnership(model, run, claim.name, claim.team, true);
      await verifyClaim(model, run, claim, team);
    }),
  ],
  [
    1,
    onClaim('withdraw', async (model, run, claim, team) => {
      const answer = await run.api(team).call('DELETE', `/domains/claims/${run.claimIds[claim.key]!}`);
      run.answered(model.withdraw(team, claim), answer);
    }),
  ],

  [2, onName('a webhook comes, or goes', comeOrGo)],

  [9, always('a cycle passes', (model, run) => pass(model, run, cycle))],
  [1, always('three minutes pass', (model, run) => pass(model, run, 180_000))],
  [2, always('eight days pass', (model, run) => pass(model, run, 8 * day))],
  [1, always('24 days pass', (model, run) => pass(model, run, 24 * day))],
];

/** All steps, each as often as its weight. */
export const allSteps: readonly fc.Arbitrary<Step>[] = steps.flatMap(([weight, step]) =>
  Array.from({ length: weight }, () => step),
);

/** One life of everything, in which all kinds of mails and messages are told. */
const lifeOfEverything: readonly [string, (model: ProductModel, run: Run) => Promise<unknown>][] = [
  ['webhooks', async (model, run) => [await comeOrGo(model, run, 0), await comeOrGo(model, run, 1)]],
  ['SES refuses an add', (model, run) => addRefusedBySes(model, run, 0, 0)],
  ['a domain', (model, run) => addAndVerify(model, run, 0, 0)],
  ['others want it', (model, run) => add(model, run, 1, 0)],
  ['a mailbox', (model, run) => createMailbox(model, run, 0, 'ada', 0)],
  ['it is kept for the mailbox', (model, run) => deleteDomain(model, run, model.domains[1]!, 0)],
  ['a record is broken', (model, run) => setRecord(model, run, 0, 'mx', false)],
  ['it lapses', (model, run) => pass(model, run, cycle)],
  ['no mailbox comes to it', (model, run) => createMailbox(model, run, 0, 'eve', 0)],
  ['it fails', (model, run) => pass(model, run, cycle)],
  ['the record is mended', (model, run) => setRecord(model, run, 0, 'mx', true)],
  ['it recovers', (model, run) => verify(model, run, model.domains[1]!, 0)],
  ['a claim', (model, run) => openClaim(model, run, 1, 0)],
  ['its record is placed', (model, run) => setOwnership(model, run, 0, 1, true)],
  ['the claim is refused', (model, run) => verifyClaim(model, run, model.claims[0]!, 1)],
  ['the record of the holder goes', (model, run) => setOwnership(model, run, 0, 0, false)],
  ['the time of grace begins', (model, run) => pass(model, run, cycle)],
  ['the claim is refused still', (model, run) => verifyClaim(model, run, model.claims[0]!, 1)],
  ['the time of grace ends', (model, run) => pass(model, run, 8 * day)],
  ['the claim wins', (model, run) => verifyClaim(model, run, model.claims[0]!, 1)],
  ['the winner loses its identity', (model, run) => loseIdentity(model, run, model.domains[2]!)],
  ['and gets another', (model, run) => verify(model, run, model.domains[2]!, 1)],
  ['it is never verified, and is to expire', (model, run) => pass(model, run, 24 * day)],
  ['it expires', (model, run) => pass(model, run, 8 * day)],
];
export const life: readonly Step[] = lifeOfEverything.map(
  ([text, act]) => new Step(text, async (model, run) => void (await act(model, run))),
);

/** Deletes everything, as customers would, so that nothing of a run is left for the next one. */
export async function clear(model: ProductModel, run: Run): Promise<void> {
  run.product.clock.moveProcess(1);
  model.now = run.product.clock.now();
  for (const mailbox of model.mailboxes.filter(({ status }) => status !== 'deleted'))
    run.answered(
      model.deleteMailbox(mailbox.team, mailbox),
      await run.api(mailbox.team).call('DELETE', `/mailboxes/${run.mailboxIds[mailbox.key]!}`),
    );
  for (const domain of liveOnes(model))
    run.answered(model.delete(domain.team, domain), await run.api(domain.team).delete(run.domainIds[domain.key]!));
  await run.agrees(model);
  for (const webhook of model.webhooks.filter(({ isThere }) => isThere)) {
    await run.api(webhook.team).call('DELETE', `/webhooks/${run.webhookIds[webhook.key]!}`);
    model.deleteWebhook(webhook);
  }
}
