import { ESLintUtils } from '@typescript-eslint/utils';

const messages = {
  cast: '`ORDER BY {{name}}` sorts by the output column, a cast, and no index gives that order: name its table too.',
};

/**
 * Forbids to sort by a name that both a column and its cast in the output have, as in `SELECT position::float8 AS
 * position … ORDER BY position`. PostgreSQL takes the output column, so it reads and sorts all rows where an index
 * would give the first.
 */
export const orderByColumns = {
  meta: { type: 'problem', schema: [], messages },
  create(context) {
    const services = ESLintUtils.getParserServices(context);
    const textOf = (expression) => {
      const type = services.getTypeAtLocation(expression);
      return type.isStringLiteral() ? type.value : ' ';
    };
    const look = (node, text) => {
      for (const [, name] of text.matchAll(/\b(\w+)::\w+\s+AS\s+"?\1\b/g))
        if (new RegExp(`\\bORDER BY (?:[\\w.\\s]+,\\s*)*${name}\\b`).test(text))
          context.report({ node, messageId: 'cast', data: { name } });
    };
    return {
      Literal: (node) => typeof node.value === 'string' && look(node, node.value),
      TemplateLiteral: (node) =>
        look(
          node,
          node.quasis
            .map(({ value }, i) => value.raw + (node.expressions[i] ? textOf(node.expressions[i]) : ''))
            .join(''),
        ),
    };
  },
};
