import {
  AlreadyExistsException,
  CreateTenantCommand,
  CreateTenantResourceAssociationCommand,
  DeleteTenantCommand,
  DeleteTenantResourceAssociationCommand,
  GetTenantCommand,
  ListResourceTenantsCommand,
  ListTenantsCommand,
  NotFoundException,
  PutEmailIdentityConfigurationSetAttributesCommand,
} from '@aws-sdk/client-sesv2';
import { adoptedTag, SesIdentities, SesUnavailable, type Call, type SesIdentity } from '@app/ses';
import { z } from 'zod';

/** The tag that marks a tenant as ours; its value is the id of the team. */
export const teamIdTag = 'sendmux:team-id';

/** Teams whose tenants a process remembers to have made whole. */
const mostTenants = 10_000;

/**
 * The beginning of the ARNs of an account in a Region: the partition, the Region and the account. SES tells it in the
 * ARN of each tenant, which ends with `tenant/<name>/<id>`.
 */
const ofAccount = z
  .string()
  .max(2_048)
  .regex(/^arn:aws[a-z-]*:ses:[a-z0-9-]+:\d{12}:tenant\//)
  .transform((arn) => arn.slice(0, arn.indexOf('tenant/')));

/**
 * Puts identities of Amazon SES v2 into the tenants of their teams, and takes them out. A tenant has the id of its team
 * for its name.
 *
 * The methods throw what those of `SesIdentities` throw.
 */
export class SesTenants extends SesIdentities {
  /** Tenants that have the configuration set, as this process has seen. */
  private readonly wholeTenants = new Set<string>();
  /** What the ARNs of the account in the Region begin with; undefined until SES has told it. */
  private arnsBegin: string | undefined;

  /**
   * Associates an identity with the tenant of a team, which is made where there is none yet
   * (`CreateTenantResourceAssociation`): SES counts its mail apart from that of other teams then, where the mail names
   * the tenant. Repeating it is harmless. An adopted identity gets a tenant only where it has the configuration set
   * already: others send with it, and it stays as it is.
   *
   * @returns the name of the tenant; undefined for none, and where the shard has none.
   */
  async joinTenant(identity: SesIdentity, team: string, call: Call = {}): Promise<string | undefined> {
    const { tenantConfigurationSet } = this.options;
    const { name, domainId, configurationSet } = identity;
    if (tenantConfigurationSet === undefined) return undefined;
    const hasSet = configurationSet === tenantConfigurationSet;
    if (!hasSet && domainId === adoptedTag) return undefined;
    // An identity may be in the tenant already: SES refuses its mail with a configuration set that the tenant lacks.
    const arnsBegin = await this.makeTenant(team, tenantConfigurationSet, call);
    if (!hasSet) await this.setConfigurationSet(name, tenantConfigurationSet, call);
    if (await this.associate(team, `${arnsBegin}identity/${name}`, call)) return team;
    this.wholeTenants.delete(team);
    throw new SesUnavailable(`SES has ${name} or the tenant ${team} no more: it is changed by somebody else right now`);
  }

  /**
   * Deletes the tenant of a team (`DeleteTenant`), with what SES knows of its reputation. Identities stay.
   *
   * @returns false when there is none.
   */
  async deleteTenant(team: string, call: Call = {}): Promise<boolean> {
    this.wholeTenants.delete(team);
    const deleted = await this.call(
      'DeleteTenant',
      (options) => this.client.send(new DeleteTenantCommand({ TenantName: team }), options),
      { ...call, expected: NotFoundException },
    );
    return deleted !== undefined;
  }

  /**
   * Calls what puts identities into tenants and takes them out, for an identity and a tenant that are not there, so
   * that SES changes nothing. What needs the number of the account is left out where SES has no tenant, and so does not
   * tell it. Whether a tenant may be made (`CreateTenant`) only the first domain of a team can tell.
   *
   * @param name of an identity that nobody has; its first label is the name of a tenant that nobody has.
   */
  tenantTrials(name: string): ((call: Call) => Promise<unknown>)[] {
    const [tenant = name] = name.split('.');
    const withArn = (work: (ResourceArn: string, call: Call) => Promise<unknown>) => async (call: Call) => {
      const arnsBegin = (this.arnsBegin ??= await this.arnsBeginOfAny(call));
      return arnsBegin && work(`${arnsBegin}identity/${name}`, call);
    };
    return [
      withArn(() => Promise.resolve()),
      (call) => this.arnOf(tenant, call),
      (call) => this.setConfigurationSet(name, this.options.tenantConfigurationSet!, call),
      withArn((arn, call) => this.associate(tenant, arn, call)),
      withArn((arn, call) => this.dissociate(tenant, arn, call)),
    ];
  }

  /**
   * Makes a tenant that can send: one with the configuration set. A process makes sure of that once, since a process
   * that died may have left it without.
   *
   * @returns what the ARNs of the account begin with.
   */
  private async makeTenant(team: string, configurationSet: string, call: Call): Promise<string> {
    if (this.arnsBegin !== undefined && this.wholeTenants.has(team)) return this.arnsBegin;
    const input = { TenantName: team, Tags: [{ Key: teamIdTag, Value: team }] };
    const made = await this.call(
      'CreateTenant',
      (options) => this.client.send(new CreateTenantCommand(input), options),
      { ...call, expected: AlreadyExistsException },
    );
    const arnsBegin = (this.arnsBegin ??= this.arnsBeginOf(made?.TenantArn ?? (await this.arnOf(team, call))));
    if (!(await this.associate(team, `${arnsBegin}configuration-set/${configurationSet}`, call)))
      throw new SesUnavailable(
        `SES does not have the tenant ${team} yet, or the configuration set ${configurationSet}`,
      );
    if (this.wholeTenants.size === mostTenants) this.wholeTenants.clear();
    this.wholeTenants.add(team);
    return arnsBegin;
  }

  private async arnOf(team: string, call: Call): Promise<string | undefined> {
    const got = await this.call(
      'GetTenant',
      (options) => this.client.send(new GetTenantCommand({ TenantName: team }), options),
      { ...call, expected: NotFoundException },
    );
    return got?.Tenant?.TenantArn;
  }

  private arnsBeginOf(tenantArn: string | undefined): string {
    const parsed = ofAccount.safeParse(tenantArn);
    if (!parsed.success) throw new SesUnavailable('SES answered without the ARN of a tenant');
    return parsed.data;
  }

  /** Gives false when there is no such tenant, or no such resource. */
  private async associate(team: string, ResourceArn: string, call: Call): Promise<boolean> {
    let isThere = true;
    const missing = (error: unknown) => {
      if (!(error instanceof NotFoundException)) throw error;
      isThere = false;
      return error;
    };
    await this.call(
      'CreateTenantResourceAssociation',
      (options) =>
        this.client
          .send(new CreateTenantResourceAssociationCommand({ TenantName: team, ResourceArn }), options)
          .catch(missing),
      { ...call, expected: AlreadyExistsException },
    );
    return isThere;
  }

  /** Takes an identity from all tenants that it is associated with. Gives false when there was none. */
  protected async leaveTenants(name: string, call: Call): Promise<boolean> {
    const arnsBegin = (this.arnsBegin ??= await this.arnsBeginOfAny(call));
    if (arnsBegin === undefined) return false;
    const ResourceArn = `${arnsBegin}identity/${name}`;
    const listed = await this.call(
      'ListResourceTenants',
      (options) => this.client.send(new ListResourceTenantsCommand({ ResourceArn }), options),
      { ...call, expected: NotFoundException },
    );
    const tenants = (listed?.ResourceTenants ?? []).flatMap(({ TenantName }) => TenantName ?? []);
    for (const tenant of tenants) await this.dissociate(tenant, ResourceArn, call);
    return tenants.length > 0;
  }

  private async dissociate(TenantName: string, ResourceArn: string, call: Call): Promise<void> {
    await this.call(
      'DeleteTenantResourceAssociation',
      (options) => this.client.send(new DeleteTenantResourceAssociationCommand({ TenantName, ResourceArn }), options),
      { ...call, expected: NotFoundException },
    );
  }

  /** Gives undefined when the account has no tenant at all. */
  private async arnsBeginOfAny(call: Call): Promise<string | undefined> {
    const listed = await this.call(
      'ListTenants',
      (options) => this.client.send(new ListTenantsCommand({ PageSize: 1 }), options),
      call,
    );
    const any = listed?.Tenants?.[0];
    return any && this.arnsBeginOf(any.TenantArn);
  }

  private async setConfigurationSet(EmailIdentity: string, ConfigurationSetName: string, call: Call): Promise<void> {
    const input = { EmailIdentity, ConfigurationSetName };
    await this.call(
      'PutEmailIdentityConfigurationSetAttributes',
      (options) => this.client.send(new PutEmailIdentityConfigurationSetAttributesCommand(input), options),
      call,
    );
  }
}
