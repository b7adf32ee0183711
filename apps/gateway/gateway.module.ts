import { Logger, Module, type DynamicModule } from '@nestjs/common';
import { Accounts, AccountsModule, accountsMigrations, Sessions } from '@app/accounts';
import { Commands, CommandsModule, DomainCommandHandler } from '@app/commands';
import { Checks, cycleMigrations } from '@app/cycle';
import { DatabaseModule, databaseUrls } from '@app/database';
import { EventLog, EventStore, eventStoreMigrations } from '@app/event-store';
import { MailboxKeys, mailboxKeysMigrations } from '@app/mailbox-keys';
import {
  DomainsReadModel,
  MailboxesReadModel,
  Quotas,
  readModelMigrations,
  StoredShards,
  storeShards,
} from '@app/read-model';
import { WebhookMessages } from '@app/presentation';
import { ProcessModule } from '@app/process';
import { providersForCustomers, publicUrlOf, sesShards, shardSettings, type Settings } from '@app/runtime';
import { senderRulesMigrations, StoredSenderRules } from '@app/sender-rules';
import { TaskList, tasksMigrations } from '@app/tasks';
import { PublishedRecords, Resolvers, VerificationModule, verificationMigrations, Verifier } from '@app/verification';
import {
  checkSecretKeys,
  SecretKeys,
  WebhookDeliveries,
  WebhookEndpoints,
  WebhookReplays,
  webhooksMigrations,
} from '@app/webhooks';
import { Pool } from 'pg';
import { KeysController } from './accounts/keys.controller';
import { MeController } from './accounts/me.controller';
import { Me } from './accounts/me.service';
import { OwnersController } from './accounts/owners.controller';
import { ClaimsController } from './claims/claims.controller';
import { claimsMigrations } from './claims/claims.migration';
import { Claims } from './claims/claims.service';
import { StoredClaims } from './claims/stored-claims';
import { DomainsController } from './domains/domains.controller';
import { Domains } from './domains/domains.service';
import { OpenShards } from './domains/open-shards';
import { FiltersController } from './domains/filters.controller';
import { SenderFilters } from './domains/filters.service';
import { idempotencyMigrations } from './idempotency/idempotency.migration';
import { IdempotencyKeys } from './idempotency/idempotency.service';
import { HistoryController } from './domains/history.controller';
import { DomainHistory } from './domains/history.service';
import { Outcomes } from './domains/outcomes.service';
import { PlansController } from './domains/plans.controller';
import { Plans } from './domains/plans.service';
import { Verifications } from './domains/verifications.service';
import { ApiKeys } from './http/api-key.guard';
import { ConsoleSessions } from './http/console-session';
import { EpochOfTags } from './http/epoch-of-tags';
import { PublicUrl } from './http/public-url';
import { SetupCallers } from './http/setup-link.guard';
import { Purge } from './purge.service';
import { SessionController } from './session/session.controller';
import { domainConnect } from './setup/domain-connect';
import { SetupLookUps } from './setup/look-ups.service';
import { SetupController } from './setup/setup.controller';
import { SetupLinksController } from './setup/setup-links.controller';
import { InvitationsController } from './invitations/invitations.controller';
import { RateLimit } from './http/rate-limit';
import { rateLimitMigrations } from './http/rate-limits.migration';
import { RequestLimits } from './http/request-limits';
import { countIn, SharedRateLimit } from './http/shared-rate-limit';
import { StoredQuotas } from './stored-quotas';
import { MailboxesController } from './mailboxes/mailboxes.controller';
import { MailboxAvailability } from './mailboxes/availability.service';
import { Mailboxes } from './mailboxes/mailboxes.service';
import { DeliveriesController } from './webhooks/deliveries.controller';
import { Deliveries } from './webhooks/deliveries.service';
import { ReplaysController } from './webhooks/replays.controller';
import { Replays } from './webhooks/replays.service';
import { WebhooksController } from './webhooks/webhooks.controller';
import { Webhooks } from './webhooks/webhooks.service';
import { OutboundProviders } from './mailboxes/outbound-providers';

/** The names of the settings that the gateway uses. */
export const gatewaySettings = [
  'PORT',
  'HOST',
  'PUBLIC_URL',
  'DATABASE_URL',
  'DATABASE_DIRECT_URL',
  'DOH_RESOLVERS',
  'DOH_TIMEOUT',
  ...shardSettings,
  'OUTBOUND_PROVIDERS',
  'SES_TIMEOUT',
  'PROVISIONING_DEADLINE',
  'DOMAIN_CONNECT_PROVIDERS',
  'DOMAIN_CONNECT_KEY_FILE',
  'DOMAIN_CONNECT_KEY_NAME',
  'DOMAIN_CONNECT_LOOPBACK',
  'RATE_LIMIT_PER_MINUTE',
  'RATE_LIMIT_PER_TEAM',
  'MAX_DOMAINS_PER_TEAM',
  'MAX_MAILBOXES_PER_TEAM',
  'VERIFICATION_INTERVAL',
  'MAIL_FROM_REQUIRED',
  'CLAIM_GRACE',
  'PERSONAL_DATA_KEYS',
  'WEBHOOK_SECRET_KEYS',
  'WEBHOOKS_ALLOW_LOOPBACK',
  'WEBHOOKS_DENIED_ADDRESSES',
  'MAX_WEBHOOKS_PER_TEAM',
  'LOG_LEVEL',
] as const satisfies readonly (keyof Settings)[];

@Module({})
export class GatewayModule {
  /** @param verification the module that provides `Verifier`, `Explainer` and `PublishedRecords`. */
  static forRoot(
    settings: Pick<Settings, (typeof gatewaySettings)[number]>,
    verification: DynamicModule = VerificationModule.forRoot({
      resolvers: settings.DOH_RESOLVERS,
      timeoutMs: settings.DOH_TIMEOUT,
      ses: {
        shards: sesShards(settings),
        timeoutMs: settings.SES_TIMEOUT,
        cycleMs: settings.VERIFICATION_INTERVAL,
      },
      required: settings.MAIL_FROM_REQUIRED ? ['mail_from'] : [],
    }),
  ): DynamicModule {
    return {
      module: GatewayModule,
      imports: [
        ProcessModule.forApp('gateway', settings.LOG_LEVEL),
        DatabaseModule.forRoot({
          ...databaseUrls(settings),
          migrations: [
            ...eventStoreMigrations,
            ...readModelMigrations,
            ...mailboxKeysMigrations,
            ...accountsMigrations,
            ...idempotencyMigrations,
            ...claimsMigrations,
            ...cycleMigrations,
            ...tasksMigrations,
            ...senderRulesMigrations,
            ...rateLimitMigrations,
            ...webhooksMigrations,
            ...verificationMigrations,
          ],
        }),
        AccountsModule,
        CommandsModule.withMailboxes(settings),
        verification,
      ],
      controllers: [
        PlansController,
        HistoryController,
        SetupLinksController,
        SetupController,
        ClaimsController,
        DomainsController,
        FiltersController,
        MailboxesController,
        KeysController,
        OwnersController,
        WebhooksController,
        DeliveriesController,
        ReplaysController,
        MeController,
        SessionController,
        InvitationsController,
      ],
      providers: [
        EpochOfTags,
        DomainsReadModel,
        MailboxesReadModel,
        TaskList,
        Mailboxes,
        MailboxAvailability,
        SenderFilters,
        { provide: StoredSenderRules, inject: [Pool], useFactory: (pool: Pool) => new StoredSenderRules(pool) },
        { provide: OutboundProviders, useValue: new OutboundProviders(providersForCustomers(settings)) },
        ApiKeys,
        SetupCallers,
        {
          provide: SetupLookUps,
          inject: [PublishedRecords, Plans, Resolvers],
          useFactory: (published: PublishedRecords, plans: Plans, { clients }: Resolvers) =>
            new SetupLookUps(published, plans, domainConnect(clients, settings)),
        },
        Me,
        Purge,
        { provide: PublicUrl, useValue: new PublicUrl(publicUrlOf(settings)) },
        {
          provide: ConsoleSessions,
          inject: [Sessions],
          useFactory: (sessions: Sessions) => new ConsoleSessions(sessions, publicUrlOf(settings)),
        },
        DomainHistory,
        IdempotencyKeys,
        StoredClaims,
        Outcomes,
        Plans,
        Verifications,
        {
          provide: Checks,
          inject: [Pool],
          useFactory: (pool: Pool) => new Checks(pool, settings.VERIFICATION_INTERVAL),
        },
        {
          provide: StoredShards,
          inject: [Pool],
          useFactory: (pool: Pool) => storeShards(pool, sesShards(settings)),
        },
        { provide: OpenShards, inject: [StoredShards], useFactory: (stored: StoredShards) => new OpenShards(stored) },
        Quotas,
        {
          provide: StoredQuotas,
          inject: [Quotas],
          useFactory: (quotas: Quotas) =>
            new StoredQuotas(quotas, {
              perTeam: { domains: settings.MAX_DOMAINS_PER_TEAM, mailboxes: settings.MAX_MAILBOXES_PER_TEAM },
              domainsInAll: settings.MAX_DOMAINS,
            }),
        },
        {
          provide: WebhookEndpoints,
          inject: [Pool, EventLog, Accounts],
          useFactory: async (pool: Pool, log: EventLog, accounts: Accounts) => {
            const keys = settings.WEBHOOK_SECRET_KEYS && new SecretKeys(() => settings.WEBHOOK_SECRET_KEYS!);
            if (keys) await checkSecretKeys(pool, keys);
            else
              new Logger('webhooks').warn(
                'WEBHOOK_SECRET_KEYS is not set: teams can create no webhooks, and rotate no secrets.',
              );
            return new WebhookEndpoints(pool, {
              keys,
              head: () => log.head(),
              inTeam: (team, work) => accounts.inTeam(team, work),
              mostOfATeam: settings.MAX_WEBHOOKS_PER_TEAM,
            });
          },
        },
        {
          provide: Webhooks,
          inject: [WebhookEndpoints, DomainsReadModel],
          useFactory: (...parts: [WebhookEndpoints, DomainsReadModel]) =>
            new Webhooks(...parts, {
              allowLoopback: settings.WEBHOOKS_ALLOW_LOOPBACK,
              denied: settings.WEBHOOKS_DENIED_ADDRESSES,
            }),
        },
        { provide: WebhookDeliveries, inject: [Pool], useFactory: (pool: Pool) => new WebhookDeliveries(pool) },
        {
          provide: WebhookMessages,
          inject: [Pool, MailboxKeys],
          useFactory: (pool: Pool, keys: MailboxKeys) => new WebhookMessages(pool, keys),
        },
        { provide: WebhookReplays, inject: [Pool], useFactory: (pool: Pool) => new WebhookReplays(pool) },
        Deliveries,
        Replays,
        { provide: RateLimit, useValue: new RateLimit(settings.RATE_LIMIT_PER_MINUTE) },
        {
          provide: RequestLimits,
          inject: [Pool],
          useFactory: (pool: Pool) => {
            const { RATE_LIMIT_PER_MINUTE: key, RATE_LIMIT_PER_TEAM: team = 5 * key } = settings;
            return new RequestLimits(new SharedRateLimit(countIn(pool)), { key, team });
          },
        },
        {
          provide: Claims,
          inject: [StoredClaims, Commands, DomainsReadModel, Verifier, Outcomes, OpenShards],
          useFactory: (...parts: [StoredClaims, Commands, DomainsReadModel, Verifier, Outcomes, OpenShards]) =>
            new Claims(...parts, settings.CLAIM_GRACE),
        },
        {
          provide: Domains,
          inject: [Commands, DomainCommandHandler, EventStore, DomainsReadModel, Outcomes, OpenShards],
          useFactory: (
            ...parts: [Commands, DomainCommandHandler, EventStore, DomainsReadModel, Outcomes, OpenShards]
          ) => new Domains(...parts, { provisioningDeadlineMs: settings.PROVISIONING_DEADLINE }),
        },
      ],
    };
  }
}
