import fc from 'fast-check';
import type { CommandContext } from '@app/decider';
import { checkNames, type CheckName, type Finding, type SesDkimStatus, type SesStanding } from '@app/mail-records';
import {
  AddDomain,
  ChangeSenderFilters,
  AnnounceExpiry,
  CancelIdentityMove,
  ChooseDomainOutboundProvider,
  CompleteDeletion,
  CompleteIdentityMove,
  CompleteIdentityRepair,
  FailIdentityMove,
  FailIdentityRepair,
  CompleteProvisioning,
  CompleteRollback,
  EnableReceiving,
  ExpireDomain,
  FailProvisioning,
  MoveIdentity,
  PrepareIdentityMove,
  RecordCheck,
  RecordOwnersTold,
  ReleaseDomain,
  RequestDeletion,
  RequestIdentityRepair,
  SwitchIdentity,
  type DomainCommand,
} from './commands';
import { DomainHeld, DomainRuleBroken } from './errors';
import type { DomainEvent, IdentityFault, SenderFilterMode } from './events';
import { sentenceOf } from './history';
import {
  decide,
  evolve,
  finalEvents,
  initialState,
  noSenderFilters,
  otherShardOf,
  type LiveDomain,
  type MailDomain,
} from './mail-domain';

const id = 'mdom_cl1';
const context: CommandContext = { at: '2026-04-15T10:00:00.000Z', actor: 'key_1', correlationId: 'req_1' };
const add = new AddDomain(
  id,
  { name: 'mail.acme.com', team: 'team_abc123', deadline: '2026-04-15T10:00:30.000Z' },
  context,
);
const provision = new CompleteProvisioning(
  id,
  { dkimTokens: ['a', 'b', 'c'], dkimZone: 'dkim.amazonses.com', sesRegion: 'eu-west-1', sesDkimStatus: 'pending' },
  context,
);
const fail = new FailProvisioning(id, { step: 'ses', kind: 'refused', reason: 'no' }, context);

type Outcomes = Partial<Record<CheckName, Finding['outcome']>>;
const findings = (outcomes: Outcomes): Finding[] =>
  checkNames.map((check) => ({
    check,
    outcome: outcomes[check] ?? 'pass',
    code: outcomes[check] ?? 'ok',
    message: '',
    name: 'mail.acme.com',
    type: 'TXT',
    expected: '',
    observed: [],
  }));
const look = (
  trigger: 'requested' | 'scheduled',
  cycle: number | null,
  outcomes: Outcomes,
  ses: SesDkimStatus | null,
) => new RecordCheck(id, { trigger, cycle, findings: findings(outcomes), sesDkimStatus: ses }, context);
const requested = (outcomes: Outcomes = {}) => look('requested', null, outcomes, 'success');
const cycle = (number: number, outcomes: Outcomes = {}) => look('scheduled', number, outcomes, 'success');
const broken: Outcomes = { mx: 'fail' };
const unknown: Outcomes = { mx: 'indeterminate' };

function run(commands: readonly DomainCommand[]): {
  state: MailDomain;
  types: string[];
  last: string[];
  events: DomainEvent[];
} {
  let state: MailDomain = initialState;
  const all: DomainEvent[] = [];
  let last: DomainEvent[] = [];
  for (const command of commands) {
    last = decide(command, state);
    state = last.reduce(evolve, state);
    all.push(...last);
  }
  return { state, types: all.map((event) => event.type), last: last.map((event) => event.type), events: all };
}
const after = (...commands: DomainCommand[]) => run([add, provision, ...commands]);

describe('provisioning: both or neither', () => {
  it('adds, then is pending once both parts have it', () => {
    expect(run([add]).state.status).toBe('provisioning');
    expect(run([add, provision]).state).toMatchObject({ status: 'pending', verifiedAt: null });
  });
  it('rolls back after a failure and frees the name', () => {
    const { state, types } = run([add, fail, new CompleteRollback(id, context)]);
    expect(state.status).toBe('rolled_back');
    expect(types).toEqual(['DomainAdded', 'ProvisioningFailed', 'ProvisioningRolledBack']);
    expect(finalEvents).toContain(types.at(-1));
  });
  it('a late success after the failure changes nothing', () => {
    expect(run([add, fail, provision]).last).toEqual([]);
  });
  it('a late failure after the success changes nothing', () => {
    expect(run([add, provision, fail]).last).toEqual([]);
  });
  it('every provisioning command can be delivered twice', () => {
    for (const twice of [add, provision]) expect(run([add, provision, twice]).last).toEqual([]);
    expect(run([add, fail, fail]).last).toEqual([]);
    const rollback = new CompleteRollback(id, context);
    expect(run([add, fail, rollback, rollback]).last).toEqual([]);
  });
});

const announced = new AnnounceExpiry(id, { expiresAt: '2026-05-15T10:00:00.000Z' }, context);
const expire = (at = announced.data.expiresAt) => new ExpireDomain(id, { ...context, at });
describe('the expiry of a domain that was never verified', () => {
  it('is announced once', () => {
    expect(after(announced).state).toMatchObject({ status: 'pending', expiresAt: '2026-05-15T10:00:00.000Z' });
    expect(after(announced, announced).last).toEqual([]);
  });
  it('comes at the announced time, and ends as a deletion does', () => {
    expect(after(announced, expire('2026-05-15T09:59:59.999Z')).last).toEqual([]);
    expect(after(expire()).last).toEqual([]);
    const expired = after(announced, expire());
    expect([expired.last, expired.state.status]).toEqual([['DomainExpired'], 'deleting']);
    expect(after(announced, expire(), expire()).last).toEqual([]);
    expect(after(announced, expire(), new CompleteDeletion(id, context)).state.status).toBe('deleted');
    expect(() => after(announced, expire(), requested())).toThrow(/being deleted/);
  });
  it('ends with its verification, and is announced for none that was ever verified', () => {
    const { state } = after(announced, requested());
    expect(state).toMatchObject({ status: 'verified', firstVerifiedAt: context.at, expiresAt: undefined });
    expect(after(announced, requested(), requested(broken), expire()).last).toEqual([]);
    for (const since of [[], [requested(broken)], [requested(broken), cycle(1, broken)]])
      expect(after(requested(), ...since, announced).last).toEqual([]);
  });
  it('is announced for none that was verified to send only', () => {
    const sending = new AddDomain(id, { ...add.data, mode: 'send_only' }, context);
    expect(run([sending, provision, requested(), new EnableReceiving(id, context), announced]).last).toEqual([]);
  });
});

const day = 86_400_000;
const later = (days: number) => ({ ...context, at: new Date(Date.parse(context.at) + days * day).toISOString() });
const release = (ownership: 'present' | 'absent' | 'unknown', days = 0) =>
  new ReleaseDomain(id, { claim: 'claim_1', ownership, graceMs: 7 * day }, later(days));
describe('the claim of another team', () => {
  const gone: Outcomes = { verification_txt: 'fail' };
  const on = (command: RecordCheck, days: number) => new RecordCheck(id, command.data, later(days));
  const refused = (...commands: DomainCommand[]) => {
    try {
      after(...commands);
    } catch (error) {
      if (error instanceof DomainHeld) return [error.why, error.goneSince].filter(Boolean).join(' ');
      throw error;
    }
    return 'released';
  };

  it.each(['present', 'absent', 'unknown'] as const)('takes one that was never verified, record %s', (record) => {
    for (const since of [[], [announced], [requested(broken)], [cycle(1, broken), cycle(2, broken)]]) {
      const { state, last } = after(...since, release(record));
      expect([last, state.status]).toEqual([['DomainReleased'], 'released']);
    }
    expect(after(release(record), new CompleteDeletion(id, context)).state.status).toBe('deleted');
    const { claim } = release(record).data;
    expect(after(release(record)).events.at(-1)!.data).toEqual({ claim });
  });
  it('is refused while the ownership record of one that was ever verified is there, failed or not', () => {
    const lives = [[], [requested(broken)], [cycle(1, broken), cycle(2, broken)]];
    for (const life of lives) {
      expect(refused(requested(), ...life, release('present', 90))).toBe('record');
      expect(refused(requested(), ...life, release('unknown', 90))).toBe('unknown');
      expect(refused(requested(), ...life, release('absent', 90))).toBe('grace');
    }
  });
  it('is refused until the ownership record is gone for the time of grace, by looks that could tell', () => {
    const lost = [requested(), on(cycle(1, gone), 1)];
    const since = later(1).at;
    expect(refused(...lost, release('absent', 7.9))).toBe(`grace ${since}`);
    expect(refused(...lost, release('absent', 8))).toBe('released');
    expect(refused(...lost, release('present', 8))).toBe(`record ${since}`);
    expect(refused(...lost, release('unknown', 8))).toBe('unknown');
    expect(refused(...lost, on(cycle(2, gone), 6), release('absent', 8))).toBe('released');
    expect(refused(...lost, on(requested({ verification_txt: 'indeterminate' }), 6), release('absent', 8))).toBe(
      'released',
    );
    const back = [...lost, on(requested(), 5), on(requested(gone), 6)];
    expect(refused(...back, release('absent', 12.9))).toBe(`grace ${later(6).at}`);
    expect(refused(...back, release('absent', 13))).toBe('released');
  });
  it('gives the whole time of grace to one whose record was gone before owners were told of that', () => {
    const { state } = after(requested(), on(cycle(1, gone), 1), on(cycle(2, gone), 2));
    const old = { ...state, ownershipGoneSince: undefined } as MailDomain;
    const events = decide(on(requested(gone), 90), old);
    expect(events).toMatchObject([{ type: 'DnsChecked', data: { beginsGrace: true } }]);
    expect(() => decide(release('absent', 89), old)).toThrow(DomainHeld);
    const warned = events.reduce(evolve, old);
    expect(() => decide(release('absent', 96.9), warned)).toThrow(DomainHeld);
    expect(decide(release('absent', 97), warned)).toMatchObject([{ type: 'DomainReleased' }]);
    expect(decide(on(requested(gone), 91), warned)).toEqual([]);
    // An event of an earlier release begins nothing.
    const unmarked = { ...events[0]!, data: { ...events[0]!.data, beginsGrace: undefined } } as DomainEvent;
    expect(evolve(old, unmarked)).toMatchObject({ ownershipGoneSince: undefined });
    expect(after(requested(gone)).state).toMatchObject({ ownershipGoneSince: undefined });
  });
  it('does not count what cannot be seen as gone', () => {
    const unseen = requested(gone);
    const findings = unseen.data.findings.map((each) =>
      each.check === 'verification_txt' ? { ...each, code: 'dnssec_bogus' } : each,
    );
    const bogus = new RecordCheck(id, { ...unseen.data, findings }, context);
    expect(refused(requested(), bogus, release('absent', 90))).toBe('grace');
  });
  it('waits for what is under way, and finds nothing where it has ended', () => {
    expect(() => after(new RequestDeletion(id, context), release('absent'))).toThrow(/Try again shortly/);
    expect(() => run([add, release('absent')])).toThrow(/Try again shortly/);
    for (const ended of [[release('absent')], [new RequestDeletion(id, context), new CompleteDeletion(id, context)]])
      expect(() => after(...ended, release('absent'))).toThrow(/There is no domain/);
  });
});

describe('verification over time', () => {
  it('H1 pending, a sweep passes: verified, told once', () => {
    expect(after(cycle(1)).last).toEqual(['DnsChecked', 'DomainVerified']);
    expect(after(cycle(1), cycle(2)).last).toEqual([]);
  });
  it('H2 pending and never verified, 50 failing sweeps: stays pending, silently', () => {
    const { state, types } = after(...Array.from({ length: 50 }, (_, i) => cycle(i + 1, broken)));
    expect(state).toMatchObject({ status: 'pending', strikes: 0 });
    expect(types.filter((type) => type === 'DnsChecked')).toHaveLength(1);
  });
  describe('a finding that decides nothing', () => {
    const beside = (command: RecordCheck, outcome: Finding['outcome']) => {
      const [first] = findings({});
      const extra: Finding = { ...first!, check: 'another', outcome, code: outcome, decides: false };
      const { data } = command;
      return new RecordCheck(id, { ...data, findings: [...data.findings, extra] }, context);
    };
    it.each(['fail', 'indeterminate'] as const)('is %s, and keeps no domain from being verified', (outcome) => {
      const { state, last } = after(beside(requested(), outcome));
      expect([state.status, last]).toEqual(['verified', ['DnsChecked', 'DomainVerified']]);
    });
    it('fails in sweep after sweep, and makes no domain lapse', () => {
      const { state, types } = after(requested(), ...[1, 2, 3].map((number) => beside(cycle(number), 'fail')));
      expect(state.status).toBe('verified');
      expect(types).toEqual(['DomainAdded', 'DomainProvisioned', 'DnsChecked', 'DomainVerified', 'DnsChecked']);
    });
    it('gets no answer, which is no news of it', () => {
      const silent = (command: RecordCheck) => {
        const { data } = beside(command, 'indeterminate');
        const findings = data.findings.map((each) =>
          each.check === 'another' ? { ...each, code: 'resolver_unreachable' } : each,
        );
        return new RecordCheck(id, { ...data, findings }, context);
      };
      expect(after(beside(requested(), 'pass'), silent(cycle(1)), beside(cycle(2), 'pass')).types).toEqual(
        after(beside(requested(), 'pass')).types,
      );
      expect(after(beside(requested(), 'pass'), silent(cycle(1, { spf: 'fail' }))).last).toContain(
        'VerificationLapsed',
      );
    });
    it('passes, and makes up for no other one', () => {
      expect(after(beside(requested(broken), 'pass')).state.status).toBe('pending');
    });
    it('clears no strike and counts none', () => {
      const { state } = after(requested(), beside(cycle(1, broken), 'pass'), beside(cycle(2, unknown), 'fail'));
      expect(state).toMatchObject({ status: 'pending', strikes: 1 });
    });
    it('is named with the others when a domain lapses', () => {
      const lapsed = after(requested(), beside(cycle(1, broken), 'fail'));
      expect(lapsed.last).toEqual(['DnsChecked', 'VerificationLapsed']);
      const events = decide(beside(cycle(1, broken), 'fail'), after(requested()).state);
      expect(events[1]).toMatchObject({ data: { failing: [{ check: 'mx' }, { check: 'another', decides: false }] } });
    });
  });
  it('records what DNSSEC says of the zone, where it was told', () => {
    const recorded = (command: RecordCheck) => after(command).events.find(({ type }) => type === 'DnsChecked')!.data;
    const signed = new RecordCheck(id, { ...requested().data, dnssec: 'secure' }, context);
    expect(recorded(signed)).toMatchObject({ dnssec: 'secure' });
    expect(recorded(requested())).not.toHaveProperty('dnssec');
  });
  it('takes a look that was of the records that it wants, whichever way it is used', () => {
    const { dkimTokens } = provision.data;
    const of = new RecordCheck(id, { ...requested().data, of: { dkimTokens } }, context);
    expect(after(of).last).toEqual(['DnsChecked', 'DomainVerified']);
  });
  it('keeps what SES says of the MAIL FROM domain, and records news of it alone', () => {
    const says = (sesMailFromStatus: 'pending' | 'success') => {
      const { data } = requested();
      return new RecordCheck(id, { ...data, sesMailFromStatus }, context);
    };
    const first = after(says('pending'));
    expect(first.state).toMatchObject({ status: 'verified', sesMailFromStatus: 'pending' });
    expect(after(says('pending'), says('pending')).last).toEqual([]);
    expect(after(says('pending'), cycle(1)).last).toEqual([]);
    const news = after(says('pending'), cycle(1), says('success'));
    expect([news.last, news.state]).toMatchObject([['DnsChecked'], { sesMailFromStatus: 'success' }]);
  });
  it('H3 verified, a sweep finds a definite fail: pending with one strike, verified_at kept', () => {
    const { state, last } = after(requested(), cycle(1, broken));
    expect(last).toEqual(['DnsChecked', 'VerificationLapsed']);
    expect(state).toMatchObject({ status: 'pending', lapsed: true, strikes: 1, verifiedAt: context.at });
  });
  it('H4 the next sweep still fails: failed, once, with its failing records and episode', () => {
    const { state, last } = after(requested(), cycle(1, broken), cycle(2, broken));
    expect(last).toEqual(['DnsChecked', 'VerificationFailed']);
    expect(state).toMatchObject({ status: 'failed', episodes: 1 });
    expect(after(requested(), cycle(1, broken), cycle(2, broken), cycle(3, broken)).last).toEqual([]);
    // No cycle looks at a failed domain any more, whatever it might find.
    expect(after(requested(), cycle(1, broken), cycle(2, broken), cycle(3)).last).toEqual([]);
  });
  it('H5 the next sweep passes: verified, strikes cleared, nobody told', () => {
    const { state, types } = after(requested(), cycle(1, broken), cycle(2), cycle(3, broken));
    expect(types).not.toContain('VerificationFailed');
    expect(state).toMatchObject({ status: 'pending', strikes: 1 });
  });
  it('H8 failed, a requested check passes: verified again', () => {
    const { state, last } = after(requested(), cycle(1, broken), cycle(2, broken), requested());
    expect(last).toEqual(['DnsChecked', 'DomainVerified']);
    expect(state.status).toBe('verified');
  });
  it('H9 failed, a requested check passes in part: stays failed', () => {
    expect(after(requested(), cycle(1, broken), cycle(2, broken), requested(broken)).state.status).toBe('failed');
  });
  it('H10 an undecided sweep changes no state and no counter', () => {
    expect(after(requested(), cycle(1, unknown)).state.status).toBe('verified');
    expect(after(requested(), cycle(1, broken), cycle(2, unknown)).state).toMatchObject({ strikes: 1 });
    expect(after(requested(), cycle(1, broken), cycle(2, unknown), cycle(3, broken)).state.status).toBe('failed');
  });
  it('H14 requested checks demote and never strike', () => {
    expect(after(requested(), requested(broken)).state).toMatchObject({ status: 'pending', strikes: 0 });
    expect(after(requested(), requested(broken), requested(unknown)).last).toEqual(['DnsChecked']);
    const worse = after(requested(), requested(broken), requested({ mx: 'fail', spf: 'fail' }));
    expect([worse.last, worse.state]).toMatchObject([['DnsChecked'], { status: 'pending', strikes: 0 }]);
    expect(after(requested(), cycle(1, unknown)).state).not.toHaveProperty('strikes');
    const struck = after(requested(), requested(broken), cycle(1, broken));
    expect(struck.state).toMatchObject({ status: 'pending', strikes: 1 });
    expect(after(requested(), requested(broken), cycle(1, broken), cycle(2, broken)).state.status).toBe('failed');
  });
  it('N6: a look that finds what the last one found gives no event, requested or not', () => {
    for (const outcomes of [{}, broken, unknown]) {
      const once = after(requested(outcomes));
      const again = after(...Array.from({ length: 20 }, () => requested(outcomes)));
      expect(again.types).toEqual(once.types);
      expect(after(requested(outcomes), cycle(1), requested(outcomes), requested(outcomes)).last).toEqual([]);
    }
  });
  it('H16 a cycle judges a domain once, however often it is redone', () => {
    expect(after(requested(), cycle(1, broken), cycle(1, broken)).last).toEqual([]);
    expect(after(requested(), cycle(2, broken), cycle(1, broken)).last).toEqual([]);
  });
  it('I11 a sweep whose look began before a requested check was recorded is overtaken by it', () => {
    const late = (lookedAt: string) => new RecordCheck(id, { ...cycle(1, broken).data, lookedAt }, context);
    expect(after(requested(), late('2026-04-15T09:59:59.000Z')).last).toEqual([]);
    expect(after(requested(), late('2026-04-15T10:00:00.000Z')).last).toContain('VerificationLapsed');
    const asked = new RecordCheck(id, { ...requested(broken).data, lookedAt: '2026-04-15T09:59:59.000Z' }, context);
    expect(after(requested(), asked).last).toContain('VerificationLapsed');
  });
  it('a sweep that has looked at a domain with nothing to lose says nothing of one that was verified meanwhile', () => {
    const unconfirmed = (number: number) =>
      new RecordCheck(id, { ...cycle(number, broken).data, hadNothingToLose: true }, context);
    expect(after(unconfirmed(1)).last).toEqual(['DnsChecked']);
    expect(after(requested(), unconfirmed(1)).last).toEqual([]);
    expect(after(requested(), cycle(1, broken), unconfirmed(2)).last).toEqual([]);
  });
  it('F1 F6 a DKIM that is waiting or in doubt moves nothing', () => {
    expect(after(look('scheduled', 1, { dkim: 'fail' }, 'pending')).state).toMatchObject({
      status: 'pending',
      strikes: 0,
    });
    const doubt = after(requested(), look('scheduled', 1, { dkim: 'indeterminate' }, 'temporary_failure'));
    expect(doubt.state).toMatchObject({ status: 'verified', sesDkimStatus: 'temporary_failure' });
  });
  it('a second failure after a recovery is a new episode', () => {
    const twice = after(
      requested(),
      cycle(1, broken),
      cycle(2, broken),
      requested(),
      cycle(3, broken),
      cycle(4, broken),
    );
    expect(twice.state).toMatchObject({ status: 'failed', episodes: 2 });
  });
});

describe('F9 the repair of an identity that SES has lost', () => {
  const request = new RequestIdentityRepair(id, { fault: 'missing' }, context);
  const identity = {
    dkimTokens: ['a', 'b', 'c'],
    dkimZone: 'dkim.amazonses.com',
    sesRegion: 'eu-west-1',
    sesDkimStatus: 'pending' as const,
  };
  const complete = (changed: Partial<typeof identity> = {}) =>
    new CompleteIdentityRepair(id, { ...identity, ...changed }, context);

  it('is asked for once until it is done, and keeps what the domain was', () => {
    expect(after(requested(), request).state).toMatchObject({ status: 'verified', inRepair: true });
    expect(after(request, request).last).toEqual([]);
    expect(after(requested(), request, complete()).state).toMatchObject({ status: 'verified', inRepair: false });
    expect(after(request, complete(), complete()).last).toEqual([]);
    expect(after(request, complete(), request).last).toEqual(['IdentityRepairRequested']);
    expect(after(complete()).last).toEqual([]);
  });
  it('is asked for once an hour at most where SES gave up, and for any other fault at once', () => {
    const gaveUp = (minute: number) =>
      new RequestIdentityRepair(id, { fault: 'gave_up' }, { ...context, at: `2026-05-01T10:${minute}:00.000Z` });
    const hourLater = new RequestIdentityRepair(
      id,
      { fault: 'gave_up' },
      { ...context, at: '2026-05-01T11:10:00.000Z' },
    );
    expect(after(gaveUp(10)).state).toMatchObject({ inRepair: true, repairRequestedAt: '2026-05-01T10:10:00.000Z' });
    expect(after(gaveUp(10), complete(), gaveUp(59)).last).toEqual([]);
    expect(after(gaveUp(10), complete(), hourLater).last).toEqual(['IdentityRepairRequested']);
    expect(after(gaveUp(10), complete(), request).last).toEqual(['IdentityRepairRequested']);
  });
  it('says whether the customer has to place other records', () => {
    const { state } = after(request, complete({ dkimTokens: ['d', 'e', 'f'] }));
    expect(state).toMatchObject({ dkimTokens: ['d', 'e', 'f'] });
    const changed = (data: Partial<typeof identity>) => decide(complete(data), after(request).state)[0]!.data;
    expect(changed({ dkimTokens: ['d', 'e', 'f'] })).toMatchObject({ recordsChanged: true });
    expect(changed({ dkimZone: 'x.dkim.amazonses.com' })).toMatchObject({ recordsChanged: true });
    expect(changed({})).toMatchObject({ recordsChanged: false });
  });
  it('that fails is over, and is asked for again after an hour', () => {
    const reason = 'Amazon SES has mail.acme.com for somebody else.';
    const fails = new FailIdentityRepair(id, { reason }, context);
    const later = (hours: number) => {
      const at = new Date(Date.parse(context.at) + hours * 3_600_000).toISOString();
      return new RequestIdentityRepair(id, { fault: 'missing' }, Object.assign({}, context, { at }));
    };
    const failed = after(requested(), request, fails);
    expect(failed.last).toEqual(['IdentityRepairFailed']);
    expect(failed.state).toMatchObject({ status: 'verified', inRepair: false, repairFailedAt: context.at });
    expect(after(fails).last).toEqual([]);
    expect(after(request, fails, fails).last).toEqual([]);
    expect(after(request, fails, requested(), later(0.9)).last).toEqual([]);
    expect(after(request, fails, later(1)).last).toEqual(['IdentityRepairRequested']);
    expect(after(request, fails, later(1), complete(), later(2)).last).toEqual(['IdentityRepairRequested']);
    const [event] = decide(fails, after(request).state);
    expect(sentenceOf(event!, after(request).state)).toMatch(/^Amazon SES could not be given .* again: Amazon SES has/);
  });
  it('is of a live domain, at any status, and ends with it', () => {
    const failed = [requested(), cycle(1, broken), cycle(2, broken), request];
    expect(after(...failed).state).toMatchObject({ status: 'failed', inRepair: true });
    expect(after(...failed, complete()).state).toMatchObject({ status: 'failed', inRepair: false });
    const fails = new FailIdentityRepair(id, { reason: 'No.' }, context);
    expect(after(...failed, fails).state).toMatchObject({ status: 'failed', inRepair: false });
    expect(run([add, request]).last).toEqual([]);
    const deleting = new RequestDeletion(id, context);
    expect(after(deleting, request).last).toEqual([]);
    expect(after(request, deleting, complete()).last).toEqual([]);
  });
});

describe('the choice of an outbound provider', () => {
  const choose = (provider: string | null) => new ChooseDomainOutboundProvider(id, { provider }, context);
  it('is kept whatever becomes of the domain, and changes nothing else', () => {
    expect(after(requested()).state).toMatchObject({ outboundProvider: null });
    const { state, last } = after(requested(), choose('mailgun'), cycle(1, broken), cycle(2, broken));
    expect(state).toMatchObject({ status: 'failed', outboundProvider: 'mailgun' });
    expect(last).toHaveLength(2);
    expect(after(choose('mailgun'), choose('mailgun')).last).toEqual([]);
    expect(after(choose('mailgun'), choose(null)).state).toMatchObject({ outboundProvider: null });
  });
  it('is refused where there is no domain, or soon none', () => {
    expect(() => run([choose('mailgun')])).toThrow(/no domain/);
    expect(() => after(new RequestDeletion(id, context), choose('mailgun'))).toThrow(/being deleted/);
  });
});

describe('rules about senders', () => {
  const change = (mode: SenderFilterMode, digest: string, rules = 1) =>
    new ChangeSenderFilters(id, { mode, rules, digest }, context);
  const { digest: empty } = noSenderFilters;

  it('are replaced as a whole, and kept through all that comes', () => {
    expect(after(requested(), change('allowlist', 'a')).last).toEqual(['SenderFiltersChanged']);
    const { state } = after(
      change('allowlist', 'a'),
      change('denylist', 'b', 7),
      requested(),
      cycle(1, { spf: 'fail' }),
    );
    expect(state).toMatchObject({ status: 'pending', senderFilters: { mode: 'denylist', rules: 7, digest: 'b' } });
  });
  it('are not changed by what they are already, from the first on', () => {
    expect(after(change('off', empty, 0)).last).toEqual([]);
    expect(after(change('allowlist', 'a'), change('allowlist', 'a')).last).toEqual([]);
    expect(after(change('allowlist', 'a'), change('denylist', 'a')).last).toEqual(['SenderFiltersChanged']);
    expect(after(change('allowlist', 'a'), change('allowlist', 'b')).last).toEqual(['SenderFiltersChanged']);
    const failed = after(requested(), cycle(1, broken), cycle(2, broken), change('allowlist', 'a'));
    expect(failed.state).toMatchObject({ status: 'failed', senderFilters: { digest: 'a' } });
    expect(after(change('denylist', empty, 0)).last).toEqual(['SenderFiltersChanged']);
  });
  it('are none of a domain that only sends, is being deleted or is not there', () => {
    const sendOnly = new AddDomain(id, { ...add.data, mode: 'send_only' }, context);
    expect(() => run([sendOnly, provision, change('allowlist', 'a')])).toThrow('only sends');
    expect(() => after(new RequestDeletion(id, context), change('allowlist', 'a'))).toThrow('is being deleted');
    expect(() => run([change('allowlist', 'a')])).toThrow('There is no domain');
  });
});

describe('a domain that only sends', () => {
  const addSendOnly = new AddDomain(id, { ...add.data, mode: 'send_only' }, context);
  const enable = new EnableReceiving(id, context);
  const { mx: _, ...rest } = Object.fromEntries(findings({}).map((each) => [each.check, each]));
  const withoutMx = new RecordCheck(id, { ...requested().data, findings: Object.values(rest) }, context);
  const life = (...commands: DomainCommand[]) => run([addSendOnly, provision, ...commands]);

  it('keeps its mode through all that comes, and is verified without a finding about MX', () => {
    const repair = [
      new RequestIdentityRepair(id, { fault: 'missing' }, context),
      new CompleteIdentityRepair(id, provision.data, context),
    ];
    expect(life(withoutMx, ...repair).state).toMatchObject({ status: 'verified', mode: 'send_only' });
    expect(life(withoutMx, new RequestDeletion(id, context)).state).toMatchObject({ mode: 'send_only' });
    // A look that finds what the last one found verifies it anew after the upgrade.
    expect(life(withoutMx, enable, withoutMx).last).toEqual(['DnsChecked', 'DomainVerified']);
    expect(run([addSendOnly, fail]).state).toMatchObject({ status: 'rolling_back', mode: 'send_only' });
  });
  it.each([
    ['pending', []],
    ['verified', [withoutMx]],
    ['pending after a lapse', [withoutMx, cycle(1, { spf: 'fail' })]],
    ['failed', [withoutMx, cycle(1, { spf: 'fail' }), cycle(2, { spf: 'fail' })]],
  ])('is to receive too while it is %s: pending as a new one, once, and for ever', (_status, before) => {
    const { state, last } = life(...before, enable);
    expect(last).toEqual(['ReceivingEnabled']);
    expect(state).toMatchObject({ status: 'pending', lapsed: false, strikes: 0, verifiedAt: null, mode: undefined });
    expect(life(...before, enable, enable).last).toEqual([]);
    // A cycle that finds no MX counts no strike against a domain that has never had one.
    const cycles = [3, 4, 5].map((number) => cycle(number, broken));
    expect(life(...before, enable, ...cycles).state.status).toBe('pending');
    expect(life(...before, enable, ...cycles, requested()).last).toEqual(['DnsChecked', 'DomainVerified']);
  });
  it('changes nothing of a domain that receives already', () => expect(after(requested(), enable).last).toEqual([]));
  it('is not verified by a look that began before the upgrade, or before its tokens changed', () => {
    const of = { mode: 'send_only', dkimTokens: provision.data.dkimTokens } as const;
    const began = (data: RecordCheck['data']) => new RecordCheck(id, { ...data, of }, context);
    const { data } = withoutMx;
    expect(life(began(data)).last).toEqual(['DnsChecked', 'DomainVerified']);
    expect(() => life(began(data), enable, began(data))).toThrow(/mail\.acme\.com has changed while/);
    expect(life(enable, began({ ...data, trigger: 'scheduled', cycle: 1 })).last).toEqual([]);
    const others = new CompleteIdentityRepair(id, { ...provision.data, dkimTokens: ['x', 'y', 'z'] }, context);
    const repair = [new RequestIdentityRepair(id, { fault: 'missing' }, context), others];
    expect(life(...repair, began({ ...data, trigger: 'scheduled', cycle: 1 })).last).toEqual([]);
  });
  it('is refused where there is no domain, or soon none', () => {
    expect(() => run([enable])).toThrow(/no domain/);
    expect(() => life(new RequestDeletion(id, context), enable)).toThrow(/being deleted/);
  });
});

describe('what SES says of the identity', () => {
  const standing = { verificationStatus: 'success', verifiedForSending: true, dkimSigningEnabled: true } as const;
  const told = (sesIdentity: SesStanding) => new RecordCheck(id, { ...requested().data, sesIdentity }, context);
  const scheduled = (number: number, status: SesDkimStatus | null) => look('scheduled', number, {}, status);

  it('is kept, and news of it alone is recorded', () => {
    const { state } = after(requested(), told(standing));
    expect(state).toMatchObject({ sesIdentity: standing });
    expect(after(told(standing), told(standing)).last).toEqual([]);
    for (const changed of [{ dkimSigningEnabled: false }, { verifiedForSending: false }])
      expect(after(told(standing), told({ ...standing, ...changed })).last).toEqual(['DnsChecked']);
    expect(after(told(standing), requested()).last).toEqual([]);
  });
  it('is unknown after a repair, but of what the repair was not about', () => {
    const { data } = told(standing);
    const seen = new RecordCheck(id, { ...data, sesMailFromStatus: 'success' }, context);
    const repaired = (fault: IdentityFault) => {
      const request = new RequestIdentityRepair(id, { fault }, context);
      return after(seen, request, new CompleteIdentityRepair(id, provision.data, context)).state;
    };
    expect(repaired('missing')).toMatchObject({ sesIdentity: undefined, sesMailFromStatus: undefined });
    for (const fault of ['no_mail_from', 'no_tenant'] as const) {
      const left = { sesIdentity: standing, sesMailFromStatus: undefined, repairRequestedAt: undefined };
      expect(repaired(fault)).toMatchObject(left);
    }
  });
  it('has the tenant of the newest event that is about the identity, and of no other', () => {
    const data = { ...provision.data, sesTenant: 'team_1' };
    const request = new RequestIdentityRepair(id, { fault: 'no_tenant' }, context);
    const given = [request, new CompleteIdentityRepair(id, data, context)];
    expect(after().state).toMatchObject({ sesTenant: undefined });
    expect(after(...given, requested()).state).toMatchObject({ status: 'verified', sesTenant: 'team_1' });
    const lost = [
      new RequestIdentityRepair(id, { fault: 'missing' }, context),
      new CompleteIdentityRepair(id, provision.data, context),
    ];
    expect(after(...given, ...lost).state).toMatchObject({ sesTenant: undefined });
  });
  it('follows the status that a scheduled look has of it', () => {
    const then = (status: SesDkimStatus | null) => {
      const { state } = after(told(standing), scheduled(1, status));
      return 'sesIdentity' in state && state.sesIdentity;
    };
    expect(then('failed')).toEqual({ ...standing, verificationStatus: 'failed', verifiedForSending: false });
    expect(then('temporary_failure')).toEqual({ ...standing, verificationStatus: 'temporary_failure' });
    expect(then(null)).toEqual(standing);
    const failed = { ...standing, verificationStatus: 'failed', verifiedForSending: false } as const;
    expect(after(told(failed), look('scheduled', 1, broken, 'success')).state).toMatchObject({ sesIdentity: standing });
    // What a look has asked SES for is not taken back by a status that says nothing new.
    const held = { ...standing, verifiedForSending: false };
    expect(after(told(held), look('scheduled', 1, broken, 'success')).state).toMatchObject({ sesIdentity: held });
    expect(after(scheduled(1, 'success')).state).toMatchObject({ sesIdentity: undefined });
  });
});

describe('what the owners were told', () => {
  const told = (about: 'failure' | 'recovery' | 'expiry' | 'released', notice: number) =>
    new RecordOwnersTold(id, { about, notice, owners: 2 }, context);
  const failed = [add, provision, requested(), cycle(1, broken), cycle(2, broken)];

  it('is recorded once, whatever comes between', () => {
    expect(run([...failed, told('failure', 1)]).last).toEqual(['OwnersTold']);
    expect(run([...failed, told('failure', 1), told('failure', 1)]).last).toEqual([]);
    const again = [requested(), told('recovery', 1), cycle(3, broken), cycle(4, broken)];
    expect(run([...failed, told('failure', 1), ...again, told('failure', 1)]).last).toEqual([]);
    expect(run([...failed, told('failure', 1), ...again, told('recovery', 1)]).last).toEqual([]);
    expect(run([...failed, told('failure', 1), ...again, told('failure', 2)]).last).toEqual(['OwnersTold']);
  });

  it('is recorded of a domain that is going, and no more of one that is gone', () => {
    const going = [...failed, new RequestDeletion(id, context)];
    expect(run([...going, told('failure', 1)]).last).toEqual(['OwnersTold']);
    expect(run([...going, new CompleteDeletion(id, context), told('failure', 1)]).last).toEqual([]);
    expect(run([told('failure', 1)]).last).toEqual([]);
    expect(after(announced, told('expiry', 3)).state).toMatchObject({ status: 'pending', told: { expiry: 3 } });
    const released = after(release('absent'), told('released', 4));
    expect([released.last, released.state]).toMatchObject([
      ['OwnersTold'],
      { status: 'released', told: { released: 4 } },
    ]);
  });

  it('changes nothing else', () => {
    const { state } = run([...failed, told('failure', 1)]);
    expect(state).toEqual({ ...run(failed).state, told: { failure: 1 } });
  });
});

describe('deletion goes forward only', () => {
  const request = new RequestDeletion(id, context);
  const complete = new CompleteDeletion(id, context);
  it('is requested, joined by a second request, and completed', () => {
    expect(after(request).state.status).toBe('deleting');
    expect(after(request, request).last).toEqual([]);
    expect(after(request, complete).state.status).toBe('deleted');
    expect(finalEvents).toContain(after(request, complete).last[0]);
    expect(after(request, complete, complete).last).toEqual([]);
  });
  it('refuses what is not there, and a check of what is going', () => {
    expect(() => run([request])).toThrow(DomainRuleBroken);
    expect(() => after(request, complete, request)).toThrow(/no domain/);
    expect(() => after(request, requested())).toThrow(/being deleted/);
    expect(after(request, cycle(1)).last).toEqual([]);
  });
});

const moving = {
  move: new MoveIdentity(id, { from: 'default', to: 'us-1' }, context),
  prepare: new PrepareIdentityMove(
    id,
    {
      dkimTokens: ['k', 'l', 'm'],
      dkimZone: 'dkim.amazonses.com',
      sesRegion: 'us-east-1',
      mailFromDomain: 'bounce.mail.acme.com',
    },
    context,
  ),
  switched: new SwitchIdentity(id, context),
  complete: new CompleteIdentityMove(id, context),
  cancel: new CancelIdentityMove(id, context),
  fail: new FailIdentityMove(id, { reason: 'No' }, context),
};

describe('a move to another shard of SES', () => {
  const { move, prepare, switched, complete, cancel } = moving;
  const verified = [add, provision, requested()];

  it('keeps the identity until the new one is in use, step by step', () => {
    const before = run(verified).state;
    expect(run([...verified, move]).last).toEqual(['IdentityMoveRequested']);
    const prepared = run([...verified, move, prepare]);
    expect(prepared.state).toEqual({
      ...before,
      nextDkim: { dkimTokens: ['k', 'l', 'm'], dkimZone: 'dkim.amazonses.com' },
      move: { from: 'default', to: 'us-1', step: 'prepared', since: context.at, identity: prepare.data },
    });
    expect(otherShardOf(prepared.state as LiveDomain)).toBe('us-1');
    const moved = run([...verified, move, prepare, switched]);
    expect(moved.state).toMatchObject({
      status: 'verified',
      dkimTokens: ['k', 'l', 'm'],
      nextDkim: undefined,
      sesShard: 'us-1',
      sesRegion: 'us-east-1',
      sesDkimStatus: 'success',
      mailFromDomain: 'bounce.mail.acme.com',
    });
    expect(otherShardOf(moved.state as LiveDomain)).toBe('default');
    const { state, last } = run([...verified, move, prepare, switched, complete]);
    expect(last).toEqual(['IdentityMoveCompleted']);
    expect(state).toEqual({ ...moved.state, move: undefined });
    expect(otherShardOf(state as LiveDomain)).toBeUndefined();
  });

  it.each([
    ['a second request', [move, move]],
    ['a move to where it is', [new MoveIdentity(id, { from: 'us-1', to: 'us-1' }, context)]],
    ['an identity that nobody asked for', [prepare]],
    ['a second identity', [move, prepare, prepare]],
    ['a switch to no identity', [move, switched]],
    ['an end before the switch', [move, prepare, complete]],
    ['a cancellation after the switch', [move, prepare, switched, cancel]],
    ['a failure after the switch', [move, prepare, switched, moving.fail]],
    ['a switch after the cancellation', [move, prepare, cancel, switched]],
    ['a cancellation of nothing', [cancel]],
  ])('changes nothing by %s', (_, commands) => expect(run([...verified, ...commands]).last).toEqual([]));

  it.each([
    [[move, cancel], false],
    [[move], false],
    [[move, prepare], true],
    [[move, prepare, cancel], true],
  ])('fails after %j with the records of before', (commands, recordsChanged) => {
    const { state, events } = run([...verified, ...commands, moving.fail]);
    expect(state).toEqual({ ...run(verified).state, nextDkim: undefined, move: undefined });
    expect(events.at(-1)).toMatchObject({ type: 'IdentityMoveFailed', data: { reason: 'No', recordsChanged } });
  });

  it.each([
    ['pending', []],
    ['verified', [requested()]],
    ['failed', [requested(), cycle(1, broken), cycle(2, broken)]],
  ])('is one of a domain that is %s, and leaves that as it is', (status, before) => {
    const life = (...commands: DomainCommand[]) => {
      const { last, state } = after(...before, ...commands);
      return [last, state.status, 'move' in state && state.move?.step];
    };
    expect(life(move)).toEqual([['IdentityMoveRequested'], status, 'requested']);
    expect(life(move, cancel)).toEqual([['IdentityMoveCancelled'], status, 'cancelled']);
    expect(life(move, prepare)).toEqual([['IdentityMovePrepared'], status, 'prepared']);
    expect(life(move, prepare, cancel)).toEqual([['IdentityMoveCancelled'], status, 'cancelled']);
    expect(life(move, prepare, switched)).toEqual([['IdentityMoved'], status, 'moved']);
    expect(life(move, prepare, switched, complete)).toEqual([['IdentityMoveCompleted'], status, undefined]);
    expect(life(move, moving.fail)).toEqual([['IdentityMoveFailed'], status, undefined]);
  });

  it('forgets what SES said of the identity before', () => {
    const sesIdentity = { verificationStatus: 'success', verifiedForSending: true, dkimSigningEnabled: true } as const;
    const seen = new RecordCheck(id, { ...requested().data, sesIdentity, sesMailFromStatus: 'success' }, context);
    expect(after(seen, move, prepare).state).toMatchObject({ sesIdentity, sesMailFromStatus: 'success' });
    const unasked = { sesIdentity: undefined, sesMailFromStatus: undefined };
    expect(after(seen, move, prepare, switched).state).toMatchObject(unasked);
  });

  it('says whether the MAIL FROM record is another one', () => {
    const near = new PrepareIdentityMove(id, { ...prepare.data, sesRegion: 'eu-west-1' }, context);
    const changed = (prepared: PrepareIdentityMove) => run([...verified, move, prepared, switched]).events.at(-1)?.data;
    expect(changed(prepare)).toMatchObject({ mailFromChanged: true });
    expect(changed(near)).toMatchObject({ mailFromChanged: false });
  });

  it('is remembered of a domain that is gone, so that late effects in both shards are found', () => {
    const gone = [new RequestDeletion(id, context), new CompleteDeletion(id, context)];
    const { state } = run([...verified, move, prepare, ...gone]);
    expect(state).toMatchObject({ status: 'deleted', move: { to: 'us-1' } });
    expect(() => run([...verified, ...gone, move])).toThrow(DomainRuleBroken);
  });
});

describe('a refusal has its code, and names the domain', () => {
  const name = 'mail.acme.com';
  const none = `There is no domain ${id}.`;
  const sendOnly = new AddDomain(id, { ...add.data, mode: 'send_only' }, context);
  const deleting = [add, provision, new RequestDeletion(id, context)];
  const rollingBack = [add, fail];
  const filters = new ChangeSenderFilters(id, { mode: 'allowlist', rules: 1, digest: 'a' }, context);
  const provider = new ChooseDomainOutboundProvider(id, { provider: 'mailgun' }, context);
  const receive = new EnableReceiving(id, context);
  const remove = new RequestDeletion(id, context);
  const stale = new RecordCheck(id, { ...requested().data, of: { dkimTokens: ['x'] } }, context);
  const hands = `${name} is changing hands just now. Try again shortly.`;
  const unchangeable = `${name} is being deleted, and can no longer be changed.`;

  it.each<[DomainCommand[], DomainCommand, DomainRuleBroken['code'], string]>([
    [[], moving.move, 'not_found', `There is no domain ${id} to move.`],
    [[], provider, 'not_found', none],
    [deleting, provider, 'conflict', `${name} is being deleted, and sends no more.`],
    [[], receive, 'not_found', none],
    [deleting, receive, 'conflict', unchangeable],
    [[], filters, 'not_found', none],
    [deleting, filters, 'conflict', unchangeable],
    [[sendOnly, provision], filters, 'conflict', `${name} only sends, and receives nothing that could be filtered.`],
    [[], requested(), 'not_found', none],
    [deleting, requested(), 'conflict', `${name} is being deleted and can no longer be verified.`],
    [[add, provision], stale, 'conflict', `${name} has changed while its records were looked up. Verify it again.`],
    [[], remove, 'not_found', none],
    [[add], release('absent'), 'conflict', hands],
    [rollingBack, release('absent'), 'conflict', hands],
    [deleting, release('absent'), 'conflict', hands],
    [[...rollingBack, new CompleteRollback(id, context)], release('absent'), 'not_found', none],
    [[add, provision, requested()], release('present'), 'conflict', `${name} is held by another team.`],
  ])('%#', (before, command, code, message) => {
    const { state } = run(before);
    const refused = (() => {
      try {
        return decide(command, state);
      } catch (error) {
        return error;
      }
    })();
    expect(refused).toMatchObject({ name: 'DomainRuleBroken', code, message });
  });
});

describe('a stream that cannot be is not read on', () => {
  const { move, prepare } = moving;
  const eventOf = (command: DomainCommand, ...before: DomainCommand[]) => decide(command, run(before).state)[0]!;
  const verified = [add, provision, requested()];

  it.each<[DomainEvent, DomainCommand[], string]>([
    [eventOf(provision, add), [], `DomainProvisioned cannot follow the status absent in stream ${id}.`],
    [eventOf(new RequestDeletion(id, context), add, provision), [add], 'cannot follow the status provisioning'],
    [eventOf(prepare, ...verified, move), verified, `IdentityMovePrepared without a move, in stream ${id}.`],
    [
      eventOf(moving.switched, ...verified, move, prepare),
      [...verified, move],
      `IdentityMoved without an identity to move to, in ${id}.`,
    ],
  ])('%#', (event, before, message) => expect(() => evolve(run(before).state, event)).toThrow(message));
});

describe('any life', () => {
  const outcome = fc.constantFrom<Finding['outcome']>('pass', 'fail', 'indeterminate');
  const outcomes = fc.record({ mx: outcome, dkim: outcome });
  const step = fc.oneof(
    fc.constant(provision),
    fc.constant(fail),
    fc.constant(new CompleteRollback(id, context)),
    outcomes.map(requested),
    fc.tuple(fc.integer({ min: 1, max: 12 }), outcomes).map(([number, o]) => cycle(number, o)),
    fc.constant(new RequestIdentityRepair(id, { fault: 'missing' }, context)),
    fc.constant(new FailIdentityRepair(id, { reason: 'No.' }, context)),
    fc
      .constantFrom('a', 'x')
      .map((token) => new CompleteIdentityRepair(id, { ...provision.data, dkimTokens: [token, 'b', 'c'] }, context)),
    fc.constantFrom(...Object.values(moving)),
    fc.constantFrom('mailgun', null).map((provider) => new ChooseDomainOutboundProvider(id, { provider }, context)),
    fc
      .constantFrom<SenderFilterMode>('off', 'allowlist', 'denylist')
      .map((mode) => new ChangeSenderFilters(id, { mode, rules: 1, digest: 'a' }, context)),
    fc.constant(new EnableReceiving(id, context)),
    fc.constant(announced),
    fc.constantFrom(release('absent'), release('present')),
    fc.constantFrom(expire(), expire('2026-04-16T10:00:00.000Z')),
    fc.constant(new RequestDeletion(id, context)),
    fc.constant(new CompleteDeletion(id, context)),
  );
  it('every decision can be folded, repeats no transition in the new state, and nothing follows a final event', () => {
    const adds = fc.constantFrom(add, new AddDomain(id, { ...add.data, mode: 'send_only' }, context));
    fc.assert(
      fc.property(adds, fc.array(step, { maxLength: 40 }), (first, steps) => {
        let state = decide(first, initialState).reduce(evolve, initialState);
        let isFinal = false;
        for (const command of steps) {
          let events: DomainEvent[] = [];
          try {
            events = decide(command, state);
          } catch (error) {
            expect(error).toBeInstanceOf(DomainRuleBroken);
          }
          state = events.reduce(evolve, state);
          if (events.length === 0) continue;
          expect(isFinal).toBe(false);
          isFinal = finalEvents.includes(events.at(-1)!.type);
          expect(isFinal).toBe(state.status === 'deleted' || state.status === 'rolled_back');
          const again = ['deleted', 'deleting', 'released'].includes(state.status) ? [] : decide(command, state);
          expect(again.filter((event) => event.type !== 'DnsChecked')).toEqual([]);
        }
      }),
    );
  });
  it('a provisioned domain has all names from the start: a fold that adds names takes ten times as long', () => {
    const begun = [add, provision].reduce<MailDomain>(
      (state, command) => decide(command, state).reduce(evolve, state),
      initialState,
    );
    const names = Object.keys(begun);
    fc.assert(
      fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
        let state = begun;
        for (const command of steps) {
          try {
            state = decide(command, state).reduce(evolve, state);
          } catch (error) {
            expect(error).toBeInstanceOf(DomainRuleBroken);
          }
          expect(Object.keys(state).filter((name) => !names.includes(name))).toEqual([]);
        }
      }),
    );
  });
  it('an event that the build does not know is refused', () => {
    expect(() => evolve(initialState, { type: 'DomainRenamed' } as unknown as DomainEvent)).toThrow(/Unknown event/);
  });
});
