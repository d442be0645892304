// Rules for the pages' scripts; types and unknown names are TypeScript's part.
export default [
  {
    files: ["**/*.js"],
    languageOptions: { ecmaVersion: 2022, sourceType: "script" },
    linterOptions: { reportUnusedDisableDirectives: "error" },
    rules: {
      "array-callback-return": "error", complexity: ["error", 20], "consistent-return": "error", eqeqeq: "error",
      "max-lines-per-function": ["error", { max: 60, skipComments: true }], "no-caller": "error",
      "no-constant-binary-expression": "error", "no-dupe-keys": "error", "no-eval": "error", "no-extend-native": "error",
      "no-fallthrough": "error", "no-implied-eval": "error", "no-inner-declarations": "error", "no-loop-func": "error",
      "no-new-func": "error", "no-param-reassign": "error", "no-restricted-properties": ["error",
        { property: "outerHTML", message: "markup is not made from text" },
        { property: "insertAdjacentHTML", message: "markup is not made from text" },
        { object: "document", property: "write", message: "markup is not made from text" }],
      "no-return-assign": ["error", "except-parens"], "no-self-compare": "error", "no-sequences": ["error", { allowInParentheses: false }],
      "no-throw-literal": "error", "no-unmodified-loop-condition": "error", "no-unreachable": "error",
      "no-unsafe-finally": "error", "no-unused-expressions": "error", "no-useless-concat": "error", "no-var": "error",
      "prefer-const": ["error", { destructuring: "all" }], "prefer-template": "off", strict: ["error", "global"],
      "use-isnan": "error", "valid-typeof": "error",
    },
  },
];
