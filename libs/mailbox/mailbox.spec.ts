import {
  CreateMailbox,
  DeleteMailbox,
  EraseMailbox,
  ResumeMailbox,
  SuspendMailbox,
  UpdateMailbox,
  type MailboxCommand,
} from './commands';
import { MailboxRuleBroken } from './errors';
import type { MailboxEvent } from './personal-data';
import { decideMailbox, evolveMailbox, finalMailboxEvents, noMailbox, type Mailbox } from './mailbox';

const context = { at: '2026-04-15T10:00:00.000Z', actor: 'key_1', correlationId: 'req_1' };
const id = 'mbx_1';
const home = { domainId: 'mdom_1', status: 'verified' };
const create = (data: Partial<CreateMailbox['data']> = {}) =>
  new CreateMailbox(id, { address: 'ada@mail.acme.com', team: 'team_abc123', home, provider: null, ...data }, context);
const onShared = (address: string, provider: string | null = null) => create({ address, home: null, provider });

function after(...commands: MailboxCommand[]): Mailbox {
  return commands.reduce((state, command) => decideMailbox(command, state).reduce(evolveMailbox, state), noMailbox);
}
const typesOf = (command: MailboxCommand, state: Mailbox): string[] =>
  decideMailbox(command, state).map(({ type }) => String(type));
const refusal = (command: MailboxCommand, state: Mailbox = noMailbox): string => {
  try {
    return `decided: ${typesOf(command, state).join()}`;
  } catch (error) {
    if (!(error instanceof MailboxRuleBroken)) throw error;
    return `${error.code}: ${error.message}`;
  }
};

const suspend = new SuspendMailbox(id, context);
const resume = new ResumeMailbox(id, context);
const remove = new DeleteMailbox(id, context);
const erase = new EraseMailbox(id, context);
const choose = (provider: string | null) => new UpdateMailbox(id, { provider }, context);
const name = (displayName: string | null) => new UpdateMailbox(id, { displayName }, context);

const active = after(create());
const suspended = after(create(), suspend);
const deleted = after(create(), remove);

describe('erasing a mailbox', () => {
  it('is for one that is deleted, once', () => {
    expect(refusal(erase)).toBe('not_found: There is no mailbox mbx_1.');
    expect(refusal(erase, active)).toBe('conflict: mbx_1 is active: delete it before it is erased.');
    expect(refusal(erase, suspended)).toMatch(/^conflict/);
    expect(typesOf(erase, deleted)).toEqual(['MailboxErased']);
    const erased = after(create(), remove, erase);
    expect(finalMailboxEvents).toEqual(typesOf(erase, deleted));
    expect([typesOf(erase, erased), typesOf(create(), erased)]).toEqual([[], []]);
  });

  it('leaves what is not personal', () => {
    const erased = after(create({ displayName: 'Ada Lovelace' }), remove, erase);
    expect(erased).toMatchObject({ status: 'deleted', team: 'team_abc123', address: null, displayName: null });
    expect(JSON.stringify(erased)).not.toMatch(/ada/i);
    for (const command of [suspend, resume, remove, name('Ada')])
      expect(refusal(command, erased)).toMatch(/^not_found/);
  });
});

describe('creating a mailbox', () => {
  it('on a verified domain of the team', () => {
    expect(decideMailbox(create(), noMailbox)).toEqual([
      {
        type: 'MailboxCreated',
        mailboxId: id,
        at: context.at,
        data: { address: 'ada@mail.acme.com', team: 'team_abc123', domainId: 'mdom_1' },
      },
    ]);
    expect(active).toMatchObject({ status: 'active', id, provider: null, createdAt: context.at });
  });

  it('with a provider of its own', () => {
    expect(after(create({ provider: 'mailgun' }))).toMatchObject({ status: 'active', provider: 'mailgun' });
  });

  it.each(['pending', 'failed'])('on a domain that is %s says what to do', (status) => {
    expect(refusal(create({ home: { ...home, status } }))).toBe(
      `conflict: mail.acme.com is ${status}, not verified. Place its DNS records and verify it with POST /domains/mdom_1/verify; then create the mailbox.`,
    );
  });

  it('on a domain that only sends says how it may receive', () => {
    expect(refusal(create({ home: { ...home, status: 'send_only' } }))).toBe(
      'conflict: mail.acme.com only sends mail. Let it receive with PATCH /domains/mdom_1 and the mode send_receive, place its MX record and verify it; then create the mailbox.',
    );
  });

  it('says which field is at fault, by an error of its name', () => {
    const fault = (command: MailboxCommand, state: Mailbox = noMailbox) => {
      try {
        return decideMailbox(command, state);
      } catch (error) {
        const { name, param } = error as MailboxRuleBroken;
        return [name, param];
      }
    };
    for (const status of ['pending', 'deleting', 'send_only'])
      expect(fault(create({ home: { ...home, status } }))).toEqual(['MailboxRuleBroken', 'address']);
    expect(fault(create({ home: null }))).toEqual(['MailboxRuleBroken', 'address']);
    expect(fault(onShared('ada@myagent.mx'))).toEqual(['MailboxRuleBroken', 'address']);
    expect(fault(onShared('ada-abc123@myagent.mx', 'mailgun'))).toEqual(['MailboxRuleBroken', 'outbound_provider']);
    expect(fault(resume)).toEqual(['MailboxRuleBroken', undefined]);
  });

  it('on a domain that is being deleted, or is not the team’s', () => {
    expect(refusal(create({ home: { ...home, status: 'deleting' } }))).toMatch(/^conflict: .* is being deleted/);
    expect(refusal(create({ home: null }))).toMatch(/^conflict: Your team has no domain mail.acme.com. Add it/);
  });

  it('on the shared domain needs the suffix of the team, and no DNS', () => {
    expect(after(onShared('ada-abc123@myagent.mx'))).toMatchObject({ status: 'active', domainId: null });
    expect(refusal(onShared('ada@myagent.mx'))).toMatch(/^validation_error: .* Send ada-abc123@myagent.mx\.$/);
    expect(refusal(onShared('ada-xyz789@myagent.mx'))).toMatch(/^validation_error/);
    expect(refusal(onShared('adaabc123@myagent.mx'))).toMatch(/^validation_error/);
    const long = refusal(onShared(`${'あ'.repeat(20)}@myagent.mx`));
    expect(long).toMatch(new RegExp(`Send ${'あ'.repeat(10)}-abc123@myagent\\.mx`));
    const wished = (localPart: string) => /Send (.*)-abc123@/.exec(refusal(onShared(`${localPart}@myagent.mx`)))?.[1];
    expect(wished('a'.repeat(32))).toBe('a'.repeat(32));
    expect(wished('a'.repeat(33))).toBe('a'.repeat(32));
    expect(wished(`${'a'.repeat(31)}.b`)).toBe('a'.repeat(31));
    expect(wished('ada.l')).toBe('ada.l');
    expect(wished('ada"')).toBe('ada"');
    expect(refusal(onShared('"a b"@myagent.mx'))).toMatch(/Send agent-abc123@myagent.mx\.$/);
    expect(refusal(onShared('-abc123@myagent.mx'))).toMatch(/Send agent-abc123@myagent.mx\.$/);
    expect(refusal(onShared('ada-abc123@myagent.mx', 'mailgun'))).toMatch(/^conflict: .* Sendmux SES/);
  });

  it('again is nothing new', () => {
    for (const state of [active, suspended, deleted]) expect(typesOf(create(), state)).toEqual([]);
  });
});

describe.each([
  ['absent', noMailbox, ['not_found', 'not_found', 'not_found', 'not_found']],
  ['active', active, ['MailboxSuspended', '', 'MailboxDeleted', 'OutboundProviderChosen']],
  ['suspended', suspended, ['', 'MailboxResumed', 'MailboxDeleted', 'OutboundProviderChosen']],
  ['deleted', deleted, ['not_found', 'not_found', 'not_found', 'not_found']],
])('a mailbox that is %s', (status, state, outcomes) => {
  it('can be suspended, resumed, deleted and sent through another provider, or not', () => {
    expect(state.status).toBe(status);
    const decided = [suspend, resume, remove, choose('mailgun')].map((command) =>
      refusal(command, state)
        .replace(/^decided: /, '')
        .replace(/^not_found: .*/, 'not_found'),
    );
    expect(decided).toEqual(outcomes);
  });
});

describe('the outbound provider', () => {
  it('is kept through suspension, and given back to the domain with null', () => {
    const chosen = after(create(), choose('mailgun'), suspend, resume);
    expect(chosen).toMatchObject({ status: 'active', provider: 'mailgun' });
    expect(typesOf(choose('mailgun'), chosen)).toEqual([]);
    expect(after(create(), choose('mailgun'), choose(null))).toEqual(active);
  });

  it('cannot be chosen on the shared domain', () => {
    const shared = after(onShared('ada-abc123@myagent.mx'));
    expect(refusal(choose('mailgun'), shared)).toMatch(/^conflict: .* cannot switch/);
    expect(typesOf(choose(null), shared)).toEqual([]);
  });
});

describe('the display name', () => {
  it('comes with the mailbox or later, is kept through suspension, and is taken back with null', () => {
    expect(after(create({ displayName: 'Ada' }))).toMatchObject({ status: 'active', displayName: 'Ada' });
    const named = after(create(), name('Ada'), suspend, resume);
    expect(named).toMatchObject({ status: 'active', displayName: 'Ada' });
    expect(typesOf(name('Ada'), named)).toEqual([]);
    expect(after(create(), name('Ada'), name(null))).toEqual(active);
  });

  it('changes together with the provider, or neither does', () => {
    const both = new UpdateMailbox(id, { displayName: 'Ada', provider: 'mailgun' }, context);
    expect(typesOf(both, active)).toEqual(['OutboundProviderChosen', 'DisplayNameChanged']);
    expect(typesOf(new UpdateMailbox(id, {}, context), after(create(), both))).toEqual([]);
    expect(refusal(both, after(onShared('ada-abc123@myagent.mx')))).toMatch(/^conflict: .* cannot switch/);
    expect(typesOf(name('Ada'), after(onShared('ada-abc123@myagent.mx')))).toEqual(['DisplayNameChanged']);
  });
});

describe('a stream that cannot be', () => {
  const event = (type: string, data: object = {}) => ({ type, mailboxId: id, at: context.at, data }) as MailboxEvent;

  it.each([
    ['MailboxCreated', active],
    ['MailboxSuspended', suspended],
    ['MailboxResumed', active],
    ['MailboxDeleted', deleted],
    ['MailboxErased', suspended],
    ['OutboundProviderChosen', noMailbox],
    ['DisplayNameChanged', deleted],
  ])('has %s after what forbids it, and is not folded', (type, state) => {
    expect(() => evolveMailbox(state, event(type))).toThrow(`${type} cannot follow`);
  });

  it('has an event of a newer build', () => {
    expect(() => evolveMailbox(active, event('MailboxPainted'))).toThrow('Unknown event MailboxPainted');
  });
});

describe('a mailbox that is suspended', () => {
  it('is deleted, and has another provider and another name, as one that is active', () => {
    expect(after(create(), suspend, remove)).toMatchObject({ status: 'deleted', deletedAt: context.at });
    expect(after(create(), suspend, choose('mailgun'))).toMatchObject({ status: 'suspended', provider: 'mailgun' });
    expect(after(create(), suspend, name('Ada'))).toMatchObject({ status: 'suspended', displayName: 'Ada' });
  });
});

describe('a mailbox whose domain has gone to another team', () => {
  const release = new SuspendMailbox(id, context, { reason: 'domain_released' });
  it.each([
    ['active', active],
    ['suspended', suspended],
  ])('is suspended for good, as is one that is %s', (_, state) => {
    const released = decideMailbox(release, state).reduce(evolveMailbox, state);
    expect(released).toMatchObject({ status: 'suspended', isReleased: true });
    expect(typesOf(release, released)).toEqual([]);
    expect(typesOf(suspend, released)).toEqual([]);
    expect(refusal(resume, released)).toMatch(/^conflict: The domain of ada@mail.acme.com has gone to another team/);
    expect(typesOf(remove, released)).toEqual(['MailboxDeleted']);
    const [event] = decideMailbox(release, state);
    expect(() => evolveMailbox(deleted, event!)).toThrow('MailboxSuspended cannot follow the status deleted');
  });
});
