import {
  AlreadyExistsException,
  CreateEmailIdentityCommand,
  DeleteEmailIdentityCommand,
  NotFoundException,
  PutEmailIdentityDkimSigningAttributesCommand,
  PutEmailIdentityMailFromAttributesCommand,
  TagResourceCommand,
} from '@aws-sdk/client-sesv2';
import {
  adoptedTag,
  belongsTo,
  domainIdTag,
  SesRefused,
  SesUnavailable,
  type Call,
  type SesIdentity,
  type SesMailFrom,
} from '@app/ses';
import { SesTenants } from './ses-tenants';

/** Whether SES refuses a deletion because of tenants, which it says in words alone. */
const hasTenants = (error: unknown): boolean =>
  error instanceof SesRefused && error.cause instanceof Error && /tenant association/i.test(error.cause.message);

/**
 * Changes the identities of Amazon SES v2, besides reading them. It is a lib of its own so that a process that only
 * reads cannot import it.
 *
 * The methods throw what those of `SesIdentities` throw.
 */
export class SesWriter extends SesTenants {
  /**
   * Creates an identity with Easy DKIM and our tag (`CreateEmailIdentity`), and with the configuration set of tenants
   * where the shard has them. An existing identity is returned as it is, and its tag says whether it is ours.
   */
  async create(name: string, domainId: string, call: Call = {}): Promise<SesIdentity> {
    const { tenantConfigurationSet: ConfigurationSetName } = this.options;
    const Tags = [{ Key: domainIdTag, Value: domainId }];
    const input = { EmailIdentity: name, Tags, ...(ConfigurationSetName && { ConfigurationSetName }) };
    const created = await this.call(
      'CreateEmailIdentity',
      (options) => this.client.send(new CreateEmailIdentityCommand(input), options),
      { ...call, expected: AlreadyExistsException },
    );
    if (created) return this.withEasyDkim(name, domainId, created.DkimAttributes, ConfigurationSetName);
    const existing = await this.get(name, call);
    if (!existing) throw new SesUnavailable(`SES has ${name} and has it not: it is changed by somebody else right now`);
    if (belongsTo(existing, domainId) && existing.tokens.length !== 3)
      throw new SesUnavailable(`SES has ${name} without Easy DKIM: it was changed by hand`);
    return existing;
  }

  /**
   * Has SES look for the DKIM records again, for up to 72 hours (`PutEmailIdentityDkimSigningAttributes` with Easy
   * DKIM). Use it only for an identity that has Easy DKIM: its key length, and with it the tokens, stay as they are.
   * Repeating it is harmless.
   *
   * @returns the tokens; null when there is no such identity.
   */
  async restartDkim(name: string, call: Call = {}): Promise<readonly string[] | null> {
    const input = { EmailIdentity: name, SigningAttributesOrigin: 'AWS_SES' as const };
    const restarted = await this.call(
      'PutEmailIdentityDkimSigningAttributes',
      (options) => this.client.send(new PutEmailIdentityDkimSigningAttributesCommand(input), options),
      { ...call, expected: NotFoundException },
    );
    return restarted ? (restarted.DkimTokens ?? []) : null;
  }

  /**
   * Sets the MAIL FROM domain of an identity (`PutEmailIdentityMailFromAttributes`), and has SES look for its MX record
   * anew, for up to 72 hours. Until SES has found it, it sends with a name of its own. Repeating it is harmless.
   *
   * @param domain a name below that of the identity.
   * @returns null when there is no such identity.
   */
  async setMailFrom(name: string, domain: string, call: Call = {}): Promise<SesMailFrom | null> {
    const input = {
      EmailIdentity: name,
      MailFromDomain: domain,
      BehaviorOnMxFailure: 'USE_DEFAULT_VALUE' as const,
    };
    const set = await this.call(
      'PutEmailIdentityMailFromAttributes',
      (options) => this.client.send(new PutEmailIdentityMailFromAttributesCommand(input), options),
      { ...call, expected: NotFoundException },
    );
    return set ? { domain, status: 'pending' } : null;
  }

  /**
   * Deletes an identity (`DeleteEmailIdentity`). One that does not exist counts as deleted. It leaves its tenants
   * first: SES refuses to delete one that has any, whoever has associated it.
   */
  async delete(name: string, call: Call = {}): Promise<void> {
    if (this.options.tenantConfigurationSet !== undefined) await this.leaveTenants(name, call);
    try {
      await this.deleteIdentity(name, call);
    } catch (error) {
      // An earlier setting of the shard, or somebody else, has associated it.
      if (!hasTenants(error) || !(await this.leaveTenants(name, call))) throw error;
      await this.deleteIdentity(name, call);
    }
  }

  private async deleteIdentity(name: string, call: Call): Promise<void> {
    await this.call(
      'DeleteEmailIdentity',
      (options) => this.client.send(new DeleteEmailIdentityCommand({ EmailIdentity: name }), options),
      { ...call, expected: NotFoundException },
    );
  }

  /**
   * `TagResource`: tags an identity that others have made, so that the domain that holds its name, or gets it, takes it
   * for its own. Its keys and its mail stay as they are.
   *
   * @param account the number of the AWS account, which is a part of the identity's ARN.
   * @returns false when there is no such identity.
   */
  async adopt(name: string, account: string, call: Call = {}): Promise<boolean> {
    const { region } = this.options;
    const partition = region.startsWith('cn-') ? 'aws-cn' : region.startsWith('us-gov-') ? 'aws-us-gov' : 'aws';
    const ResourceArn = `arn:${partition}:ses:${region}:${account}:identity/${name}`;
    const Tags = [{ Key: domainIdTag, Value: adoptedTag }];
    const tagged = await this.call(
      'TagResource',
      (options) => this.client.send(new TagResourceCommand({ ResourceArn, Tags }), options),
      { ...call, expected: NotFoundException },
    );
    return tagged !== undefined;
  }

  /** Gives the number of the AWS account where the credentials name it. */
  async account(): Promise<string | undefined> {
    return (await this.client.config.credentials()).accountId;
  }
}
