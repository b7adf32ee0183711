import { useState } from 'preact/hooks';
import type { Schemas } from './api';
import { Copied } from './copy';
import { nameInZone } from './names';
import { count } from './text';
import { MxFields, Prose, Value, Values } from './value';

type Plan = Schemas['DnsPlanSchema'];
type Operation = Plan['operations'][number];

const verbs = { create: 'Create', replace: 'Replace', delete: 'Delete', keep: 'Leave' } as const;

function Step({ operation, zone }: { readonly operation: Operation; readonly zone: string }) {
  const { action, type, name, values, replaces, ttl, reason } = operation;
  const relative = nameInZone(name, zone);
  return (
    <li data-action={action}>
      <p>
        <strong>
          {verbs[action]} the {type} record at <Value text={relative} />
        </strong>
      </p>
      <dl class="facts">
        <dt>Name</dt>
        <dd>
          <Copied text={relative} what={`the name for ${type} ${name}, within the zone`}>
            <Value text={relative} />
            {relative !== name && (
              <span class="quiet">
                {' '}
                in full <Value text={name} />
              </span>
            )}
          </Copied>
        </dd>
        {action === 'replace' && (
          <>
            <dt>Instead of</dt>
            <dd>
              <Values values={replaces} />
            </dd>
          </>
        )}
        <dt>{action === 'delete' ? 'Delete' : 'Value'}</dt>
        <dd>
          {action === 'delete' || values.length !== 1 ? (
            <Values values={values} />
          ) : (
            <>
              <Copied text={values[0]!} what={`the value for ${type} ${name}`}>
                <Value text={values[0]!} />
              </Copied>
              <MxFields type={type} value={values[0]!} />
            </>
          )}
        </dd>
        {ttl !== null && (
          <>
            <dt>TTL</dt>
            <dd>{count(ttl, 'second')}</dd>
          </>
        )}
        <dt>Why</dt>
        <dd>
          <Prose text={reason} />
        </dd>
      </dl>
    </li>
  );
}

const tones = { blocking: 'bad', breaking: 'bad', warning: 'wait', info: '' } as const;

/** Shows what to mind about a zone, the gravest first. */
export function Warnings({
  warnings,
}: {
  readonly warnings: readonly { readonly severity: keyof typeof tones; readonly message: string }[];
}) {
  if (warnings.length === 0) return null;
  const order = Object.keys(tones);
  const sorted = [...warnings].sort((one, other) => order.indexOf(one.severity) - order.indexOf(other.severity));
  return (
    <ul class="plain stack">
      {sorted.map(({ severity, message }, index) => (
        <li key={index} class={`note ${tones[severity]}`}>
          <Prose text={message} />
        </li>
      ))}
    </ul>
  );
}

const page = 30;

/** Shows what to change in the zone, step by step in the order to apply. */
export function PlanSteps({ plan }: { readonly plan: Plan }) {
  const [shown, setShown] = useState(page);
  const steps = plan.operations.filter(({ action }) => action !== 'keep');
  return (
    <div class="stack">
      <Warnings warnings={plan.warnings} />
      {steps.length === 0 ? (
        <p>{plan.complete ? 'Nothing is left to change.' : 'No change of records helps until this is solved.'}</p>
      ) : (
        <>
          <p>
            In the zone <Value text={plan.zone} />, in this order. Leave all other records as they are.
          </p>
          <ol class="steps">
            {steps.slice(0, shown).map((operation, index) => (
              <Step key={index} operation={operation} zone={plan.zone} />
            ))}
          </ol>
          {steps.length > shown && (
            <p>
              <button type="button" onClick={() => setShown(shown + page)}>
                Show more of {count(steps.length, 'step')}
              </button>
            </p>
          )}
        </>
      )}
    </div>
  );
}
