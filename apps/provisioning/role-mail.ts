import type { Accounts } from '@app/accounts';
import type { MailServer } from '@app/mail-server';
import type { DomainsReadModel } from '@app/read-model';
import type { Settings } from '@app/runtime';
import type { TaskOutcome } from '@app/tasks';

/** Milliseconds after which owners who have come or gone are looked for. */
const lookAgainMs = 300_000;

/** Tells the mail server who gets the mail to postmaster and abuse of the customers' domains. */
export class RoleMail {
  constructor(
    private readonly accounts: Pick<Accounts, 'ownersOfTeams'>,
    private readonly domains: Pick<DomainsReadModel, 'teams'>,
    private readonly mailServer: Pick<MailServer, 'replaceRoles'>,
    private readonly settings: Pick<Settings, 'ROLE_MAIL' | 'POSTMASTER_ADDRESS'>,
  ) {}

  async update(): Promise<TaskOutcome> {
    const { ROLE_MAIL, POSTMASTER_ADDRESS } = this.settings;
    const isForOwners = ROLE_MAIL === 'owners';
    await this.mailServer.replaceRoles(POSTMASTER_ADDRESS, isForOwners ? await this.ownersOfDomains() : new Map());
    return isForOwners ? { retryInMs: lookAgainMs, error: 'owners may have come or gone by then' } : 'done';
  }

  /** Reads the addresses of the owners of each domain that is not gone, separated by commas. */
  private async ownersOfDomains(): Promise<Map<string, string>> {
    const owners = await this.accounts.ownersOfTeams();
    const teams = await this.domains.teams();
    return new Map(
      [...teams].flatMap(([id, team]): [string, string][] => {
        const addresses = owners.get(team);
        return addresses ? [[id, addresses.join(',')]] : [];
      }),
    );
  }
}
