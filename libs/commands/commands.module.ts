import { Module, type DynamicModule } from '@nestjs/common';
import { CqrsModule } from '@nestjs/cqrs';
import { EventStore, EventStoreModule } from '@app/event-store';
import { checkMailboxKeyRing, mailboxKeyRingOf, MailboxKeys } from '@app/mailbox-keys';
import { domainsProjection, mailboxesProjection } from '@app/read-model';
import type { Settings } from '@app/runtime';
import { Pool } from 'pg';
import { Commands } from './commands';
import { DomainCommandHandler } from './domain-command.handler';
import { MAILBOX_STORE, MailboxCommandHandler } from './mailbox-command.handler';

const forDomains = {
  imports: [CqrsModule.forRoot(), EventStoreModule.forRoot(domainsProjection)],
  providers: [Commands, DomainCommandHandler],
  exports: [EventStoreModule, Commands, DomainCommandHandler],
};

/** Provides the handlers of commands: those of domains by itself, and with the keys of mailboxes those of both. */
@Module(forDomains)
export class CommandsModule {
  /**
   * @throws {SettingsInvalid} without `PERSONAL_DATA_KEYS`, and at the start with a key that is another one.
   */
  static withMailboxes(settings: Pick<Settings, 'PERSONAL_DATA_KEYS'>): DynamicModule {
    const keys = mailboxKeyRingOf(settings);
    return {
      module: WithMailboxes,
      ...forDomains,
      providers: [
        ...forDomains.providers,
        {
          provide: MAILBOX_STORE,
          inject: [Pool],
          useFactory: (pool: Pool) => new EventStore(pool, mailboxesProjection),
        },
        {
          provide: MailboxKeys,
          inject: [Pool],
          useFactory: async (pool: Pool) => {
            await checkMailboxKeyRing(pool, keys);
            return new MailboxKeys(pool, keys);
          },
        },
        MailboxCommandHandler,
      ],
      exports: [...forDomains.exports, MailboxKeys, MailboxCommandHandler],
    };
  }
}

@Module({})
class WithMailboxes {}
