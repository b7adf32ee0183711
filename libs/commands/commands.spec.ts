import { Logger } from '@nestjs/common';
import type { EventStore } from '@app/event-store';
import { RequestDeletion } from '@app/mail-domain';
import { CreateMailbox, MailboxRuleBroken, SuspendMailbox } from '@app/mailbox';
import { commandsTo } from '../../test/support/commands';
import { oneKey } from '../../test/support/mailbox-keys';
import { DomainCommandHandler, type Decided } from './domain-command.handler';
import { MailboxCommandHandler, type MailboxDecided } from './mailbox-command.handler';

beforeAll(() => {
  Logger.overrideLogger(false);
});

const context = { at: '2026-04-15T10:00:00.000Z', actor: 'key_1', correlationId: 'req_1' };
const emptyStore = () =>
  ({
    readStream: () => Promise.resolve([]),
    append: ({ events }: { events: unknown[] }) => Promise.resolve(events.length),
  }) as unknown as EventStore;
const commands = commandsTo(new DomainCommandHandler(emptyStore()), new MailboxCommandHandler(emptyStore(), oneKey));

const address = 'ada-abc123@myagent.mx';
const create = new CreateMailbox('mbx_1', { address, team: 'team_abc123', home: null, provider: null }, context);
const remove = new RequestDeletion('mdom_1', context);

it('gives the decision of the command’s model', async () => {
  const { state, version, events } = await commands.execute(create);
  expect([state.status, version, events.map(({ type }) => type)]).toEqual(['active', 1, ['MailboxCreated']]);
});

it('throws what the model refuses', async () => {
  await expect(commands.execute(remove)).rejects.toThrow('There is no domain mdom_1.');
  await expect(commands.execute(new SuspendMailbox('mbx_2', context))).rejects.toThrow(MailboxRuleBroken);
});

/** Holds the types: `npm run typecheck` compiles it and nothing calls it. Each line marked as an error must be one. */
export function types(): void {
  exactly<Decided>()(commands.execute(remove), true);
  exactly<MailboxDecided>()(commands.execute(create), true);
  // @ts-expect-error -- a decision on a domain is none on a mailbox
  exactly<MailboxDecided>()(commands.execute(remove), true);
  // @ts-expect-error -- nobody says what a command gives
  void commands.execute<RequestDeletion, string>(remove);
  // @ts-expect-error -- no command of a model
  void commands.execute({ type: 'Rename', domainId: 'mdom_1', data: {}, context });
}

type Same<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false;
declare function exactly<Expected>(): <Actual>(given: Promise<Actual>, isSame: Same<Actual, Expected>) => void;
